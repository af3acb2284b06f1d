"""The benchmark: what a rollout's step costs, next to a naive step with the same result."""
