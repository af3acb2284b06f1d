"""The report of a comparison: the page, its plots, its strips and its notes."""
