"""The shell of inference: compare and prompts."""
