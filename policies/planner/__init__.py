"""A policy that reads positions from frames and plans by them."""
