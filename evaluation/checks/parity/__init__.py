"""Compare this implementation with the published one, on reference test vectors."""
