"""The same columns on many prompts: reading, running and reporting a prompt set."""
