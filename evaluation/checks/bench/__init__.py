"""How much a step of a rollout costs, next to a naive one that it is checked to be equal to."""
