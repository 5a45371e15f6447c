"""The Evaluate tab: a run against its base."""
