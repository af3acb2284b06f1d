"""Who decides whether an attempt worked."""
