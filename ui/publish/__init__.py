"""The Publish tab: its form, the request and its preview."""
