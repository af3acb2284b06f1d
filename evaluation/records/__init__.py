"""The files of a run: rows, videos, strips of frames, tables of trials."""
