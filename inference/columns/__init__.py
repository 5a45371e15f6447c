"""What each strategy does with a column's logits at every step."""
