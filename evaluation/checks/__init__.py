"""Checks of the machinery: reference test vectors, speed, fidelity, converted policies."""
