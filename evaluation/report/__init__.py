"""How is a comparison shown: the page, its plots, its strips and its notes."""
