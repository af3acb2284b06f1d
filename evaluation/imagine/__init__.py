"""Imagine one rollout, or every move of a robot, and show it."""
