"""Settings of `v2w collect`."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class CollectConfig:
    """What to record on the stand-in robot.

    Attributes:
        output: Folder for the episodes.
        tasks: Which tasks; each gets `episodes` episodes.
        episodes: Episodes per task.
        first_seed: Start of episode i is fixed by seed `first_seed + i`.
        behaviours: Share of episodes per behaviour; see `v2w_gym.behaviours`.
        workers: Processes.
    """

    output: str = "data/standin/train"
    tasks: list[str] = field(default_factory=lambda: ["close_drawer", "open_drawer"])
    episodes: int = 2400
    first_seed: int = 0
    behaviours: dict[str, float] = field(
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
    workers: int = 2
