"""Settings of `v2w collect`."""

from dataclasses import dataclass, field
from typing import Annotated

from configs.rules import Amount, Factor, PathText, Seed, Threads, some
from configs.values import Settings


@dataclass(frozen=True)
class CollectConfig(Settings):
    """What to record on the stand-in robot.

    Attributes:
        output: Folder for the episodes.
        tasks: Which tasks; each gets `episodes` episodes.
        episodes: Episodes per task.
        first_seed: Start of episode i is fixed by seed `first_seed + i`.
        behaviours: Share of episodes per behaviour; see `v2w_gym.behaviours`.
        workers: Processes.
    """

    output: PathText = "data/standin/train"
    tasks: Annotated[list[str], some] = field(
        default_factory=lambda: ["close_drawer", "open_drawer"]
    )
    episodes: Amount = 2400
    first_seed: Seed = 0
    behaviours: dict[str, Factor] = field(
        default_factory=lambda: {
            "expert": 0.15,
            "noisy_expert": 0.30,
            "misaimed_expert": 0.20,
            "other_task": 0.05,
            "there_and_back": 0.10,
            "expert_then_noise": 0.10,
            "random_walk": 0.10,
        }
    )
    workers: Threads = 2
