"""Files become datasets here: read, recognise, check, convert, store, tokenise."""
