"""The stand-in robot: a Meta-World Sawyer in MuJoCo that takes the place of a real one."""
