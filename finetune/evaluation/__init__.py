"""Compares a run with its base: losses on held-out rows, a baseline, answers side by side."""
