"""Following a rented job: the Hub's calls, its log lines, events and files."""
