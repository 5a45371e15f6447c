"""A comparison from a typed request to its record: queue, run, check and rerun."""
