"""A Python that starts warm: child processes of the tests, forked from one process that has the libraries imported."""
