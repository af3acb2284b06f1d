"""Is this implementation the published one? Reference test vectors, and what ours gives."""
