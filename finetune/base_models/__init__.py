"""Base models: suggestions, search, and the sizes that a plan needs."""
