"""Runs on this machine: the launcher, the worker process and its ranks."""
