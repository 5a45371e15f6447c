"""Around the page: address, sign-in, sessions, and the gate before every route."""
