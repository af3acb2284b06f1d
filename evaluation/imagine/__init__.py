"""What does the world model imagine after a start: one rollout, or every move of the robot?"""
