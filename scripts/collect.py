"""Record episodes on the stand-in robot (a simulated robot), good ones and failures alike."""

from v2w_gym.configs.train import CollectConfig
from v2w_gym.standin.collect import collect

SCHEMA = CollectConfig


def main(cfg: CollectConfig) -> None:
    """Record, and say where the episodes are."""
    print(f"episodes are in {collect(cfg)}")
