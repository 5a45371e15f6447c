"""Model files made from a run: merged weights, GGUF, and the check of both."""
