"""The commands: read settings, call one function, say where the results are."""
