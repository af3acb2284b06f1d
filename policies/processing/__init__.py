"""Pre- and postprocessing of a policy on a robot, as pure functions: images, actions, chunks."""
