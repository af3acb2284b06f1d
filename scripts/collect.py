"""Record episodes on the stand-in robot (a simulated robot), both successes and failures."""

from v2w_gym.configs.train import CollectConfig
from v2w_gym.standin.collect import collect

SCHEMA = CollectConfig


def main(cfg: CollectConfig) -> None:
    """Record the episodes, then print their folder."""
    print(f"episodes are in {collect(cfg)}")
