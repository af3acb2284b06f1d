"""The published checkpoints: weight names, quirks, loading and conversion."""
