"""Is this implementation the published one? Golden cases and how ours is held against them."""
