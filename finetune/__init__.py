"""From data to a published model: configuration, runs, training, launching, publishing."""
