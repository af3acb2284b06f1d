"""Robot policies, which map camera frames and an instruction to actions."""
