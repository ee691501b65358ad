"""How a tuning job decides: what to try next, and which trials are not worth finishing."""
