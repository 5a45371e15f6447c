"""The Fine-tune tab: form, plan, machines, and a run as it goes on."""
