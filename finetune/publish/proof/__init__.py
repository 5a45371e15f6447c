"""The verification of a push: a fresh process downloads what was pushed and compares it."""
