"""Checks of the implementation: reference test vectors, speed, fidelity, converted policies."""
