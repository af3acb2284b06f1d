"""Pre- and postprocessing of policies: pure functions on images, actions and chunks."""
