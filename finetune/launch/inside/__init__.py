"""What runs inside a rented job: training, event lines, uploads."""
