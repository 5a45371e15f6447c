"""Runs on rented machines: flavors, checks, price, what is sent, the start."""
