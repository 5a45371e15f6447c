"""The repository of a push: destination, differences, upload, records."""
