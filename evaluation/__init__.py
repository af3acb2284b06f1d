"""Evaluate policies in a world model, and check how far the results can be trusted."""
