"""The planner, a policy that reads positions from frames and moves to waypoints."""
