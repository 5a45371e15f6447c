"""Copies of datasets and runs that outlive the machine, and their return."""
