"""The run folder: its record, events, status, queue and held-out rows."""
