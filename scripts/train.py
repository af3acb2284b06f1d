"""Train a world model on recorded episodes; the same command resumes."""

from v2w_gym.configs.train import TrainConfig
from v2w_gym.world_models.training import train

SCHEMA = TrainConfig


def main(cfg: TrainConfig) -> None:
    """Train the world model, then print the checkpoint's path."""
    print(f"world model: {train(cfg)}")
