"""The command line of inference: compare and prompts."""
