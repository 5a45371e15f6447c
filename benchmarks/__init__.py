"""Measurements that print our figure, the peer's and the ratio."""
