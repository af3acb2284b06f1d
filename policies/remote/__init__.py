"""Policies in a process of their own, asked over a websocket with openpi's protocol."""
