"""Convert recorded data once, in parallel and checked, to the format that training streams."""

from v2w_gym.configs.data import PrepareConfig
from v2w_gym.world_models.data.preparing.prepare import prepare
from v2w_gym.world_models.data.preparing.summary import summarise

SCHEMA = PrepareConfig
ARGUMENTS = ("source", "output")


def main(cfg: PrepareConfig) -> None:
    """Prepare the data, then print what is in the folder and what was left out."""
    data = prepare(cfg)
    print(summarise(data))
