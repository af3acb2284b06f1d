"""Train the perception of the planner, and measure it on frames it has not seen."""

import json

from v2w_gym.configs.train import TrainPlannerConfig

SCHEMA = TrainPlannerConfig


def main(cfg: TrainPlannerConfig) -> None:
    """Train, and show the errors."""
    from v2w_gym.policies.planner.training import train

    card = train(cfg)
    print(json.dumps(card["held_out"], indent=2))
    print(f"\npolicy and card are in {cfg.output}")
