"""Conversion of recorded data to prepared data: checked, in parallel, and resumable."""
