"""The shell of fine-tuning, one module a group of commands."""
