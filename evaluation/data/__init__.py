"""What is in recorded data, and whether its actions, units and frames can be right."""
