"""Talking to the Hub: whether it can be reached, when a call is made again, and its errors in words."""
