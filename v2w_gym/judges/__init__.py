"""Who decides whether an attempt worked: what a judge is, which there are, and how one is asked."""
