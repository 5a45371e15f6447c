"""The page: a package for each tab. Handlers read the fields, call the packages below, and show the result."""
