"""Recorded episodes: file formats, and training clips."""
