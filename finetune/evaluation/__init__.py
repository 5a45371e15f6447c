"""A run against its base: losses on held-out rows, a baseline, answers side by side."""
