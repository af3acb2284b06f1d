"""Decoding of files: arrays, pictures, videos and tables, only what is needed and safely."""
