"""Train the planner's perception on recorded frames, and measure it on held-out frames."""

import json

from v2w_gym.configs.train import TrainPlannerConfig

SCHEMA = TrainPlannerConfig


def main(cfg: TrainPlannerConfig) -> None:
    """Train the network, then print its errors."""
    from v2w_gym.policies.planner.training import train

    card = train(cfg)
    print(json.dumps(card["held_out"], indent=2))
    print(f"\npolicy and card are in {cfg.output}")
