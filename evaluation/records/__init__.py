"""What is kept of rollouts: rows, videos, strips of frames."""
