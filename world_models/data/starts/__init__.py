"""Starts of rollouts: files, choice and cutting."""
