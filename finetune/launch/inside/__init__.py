"""What runs inside a rented job: it trains, tells and keeps."""
