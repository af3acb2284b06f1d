"""Recorded episodes: where they come from and how they are cut into training clips."""
