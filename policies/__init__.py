"""Given a frame and an instruction, choose an action."""
