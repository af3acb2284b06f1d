"""Policies that others saved with TensorFlow: their weights without it, their graphs with it."""
