"""Given frames and actions, predict the next frame."""
