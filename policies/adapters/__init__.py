"""Policies of other libraries behind this project's interface."""
