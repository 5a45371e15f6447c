"""The figures of a comparison, with their intervals."""
