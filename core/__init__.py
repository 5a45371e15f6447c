"""What every part needs and nothing heavy: errors, words, the workspace and references, row kinds."""
