"""The Data tab: import, mapping and preview."""
