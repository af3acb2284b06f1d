"""Readers of recorded data, one file for each format."""
