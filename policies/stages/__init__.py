"""What lies between a policy and a robot, as pure functions: images, actions, chunks."""
