"""Write a checkpoint in the published format with random weights, for tests and timing."""

from v2w_gym.configs.published import RandomCheckpointConfig

SCHEMA = RandomCheckpointConfig
ARGUMENTS = ("output",)


def main(cfg: RandomCheckpointConfig) -> None:
    """Write the checkpoint, then print its size."""
    from v2w_gym.world_models.vid2world.published.convert import write_random

    output = write_random(cfg)
    print(f"wrote {output} ({output.stat().st_size / 1e9:.3f} GB) with random weights")
