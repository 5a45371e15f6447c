"""From a reference to a loaded model and tokenizer: find, fetch, check, load and share."""
