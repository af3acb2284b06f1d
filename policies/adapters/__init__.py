"""Adapters for policies of other libraries."""
