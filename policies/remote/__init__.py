"""Policies in a separate process, which respond over a websocket with openpi's protocol."""
