"""The Fine-tune tab: form, plan, machines, and the live view of a run."""
