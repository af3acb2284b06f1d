"""Benchmarks: a rollout step next to a naive one of the same result; loading next to decoding."""
