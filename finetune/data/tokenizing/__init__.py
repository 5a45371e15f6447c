"""From rows to token ids with their labels: chat template, lengths, packing."""
