"""From a file or a Hub dataset to stored rows: read, recognize, convert."""
