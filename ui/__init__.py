"""The page: one module a tab, thin; it reads, calls the packages below, and shows."""
