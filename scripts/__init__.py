"""The `v2w` commands; each reads settings, calls one function, and prints the results' paths."""
