"""Judges, which decide whether an attempt solved its task."""
