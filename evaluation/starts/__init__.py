"""Start frames from recorded data: their choice, their files, their picture."""
