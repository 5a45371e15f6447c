"""The Evaluate tab: a run compared with its base."""
