"""Judges of whole rollouts: how they are checked, trained and measured."""
