"""Check that a judge fits a world model; train and measure the drawer judge."""
