"""From files to datasets: read, recognize, check, convert, store, tokenize."""
