"""Settings of `v2w rank`, `trials`, `rollout`, `action-control` and `gate`."""

from dataclasses import dataclass, field
from typing import Annotated

from v2w_gym.configs.rules import (
    Amount,
    BatchSize,
    Frames,
    PathText,
    Range,
    Seed,
    Share,
    distinct,
    some,
)
from v2w_gym.configs.tasks import tasks_of
from v2w_gym.configs.values import Settings
from v2w_gym.configs.world_model import WorldModelSettings


def _tasks() -> list[str]:
    return list(tasks_of("standin_sawyer"))


def _policies() -> list[str]:
    return ["zero", "random", "rt1-begin", "rt1-15", "rt1-converged"]


@dataclass(frozen=True)
class RankConfig(WorldModelSettings):
    """Policies to run in a world model, and the trials to compare them with.

    Attributes:
        output: Run folder; the same command resumes there.
        judge: Success judge (.safetensors); null is the bundled one.
        policies: Names or paths, as `v2w_gym.policies.loading.make_policy` takes them.
        tasks: Names of tasks; see `v2w_gym.configs.tasks`.
        starts: Bundled starts per task.
        seeds: Rollouts per start, each with its own noise.
        batch_size: Rollouts that run together; changes speed, memory and rounding in the frames.
        trials: Table of trials on the (stand-in) robot; null is the bundled one.
    """

    output: PathText = "runs/rank"
    judge: PathText | None = None
    policies: list[PathText] = field(default_factory=_policies)
    tasks: Annotated[list[str], some] = field(default_factory=_tasks)
    starts: Amount = 30
    seeds: Annotated[int, Range(1, 10_000)] = 1
    batch_size: BatchSize = 16
    trials: PathText | None = None


@dataclass(frozen=True)
class TrialsConfig(Settings):
    """Policies to try on the stand-in robot.

    Attributes:
        output: Table (.csv); the same command resumes it.
        policies: Names or paths, as `v2w_gym.policies.loading.make_policy` takes them.
        tasks: Names of tasks; see `v2w_gym.configs.tasks`.
        starts: Bundled starts per task; one trial each.
    """

    output: PathText = "runs/trials.csv"
    policies: list[PathText] = field(default_factory=_policies)
    tasks: Annotated[list[str], some] = field(default_factory=_tasks)
    starts: Amount = 60


@dataclass(frozen=True)
class ImagineConfig(WorldModelSettings):
    """A rollout's initial frame, and the folder of its results.

    Attributes:
        output: Folder for the results; the same command resumes there.
        start: Number of a bundled start, or recorded data: a picture, a video, an episode, or one
            of several, as in starts.npz#3 or FOLDER#ID.
        fit: Crop and resize frames whose size is not the robot's.
        task: Task that the robot attempts; null is its first.
        seed: Seed; all noise depends on seed and episode alone.
        episode: Number of the rollout with that seed.
    """

    output: PathText = "runs/rollout"
    start: Annotated[int, Range(0, 1_000_000)] | PathText = 0
    fit: bool = False
    task: str | None = None
    seed: Seed = 0
    episode: Seed = 0


@dataclass(frozen=True)
class RolloutConfig(ImagineConfig):
    """A rollout: its actions or policy, and its length.

    Attributes:
        actions: recorded replays the actions of the start's recording, held takes random moves,
            idle does nothing. A path names a .npy file with actions (N, A) or another recording.
            Recorded actions beyond the robot's bounds are clipped and counted.
        policy: Policy that acts in closed loop instead, until it ends the episode: a name, path or
            URL as for `v2w rank`; null for none.
        instruction: Instruction of the policy; null for the task's or, where no task is named,
            that of the start.
        moves: Names of the moves that held draws from; null is all of the robot's.
        hold: Frames for which each random move is held.
        steps: Frames to imagine; null for as many as there are actions, or the task's horizon.
        mode: autoregressive samples frame by frame, for any length; clip samples one window at
            once.
    """

    actions: PathText = "held"
    policy: PathText | None = None
    instruction: str | None = None
    moves: Annotated[list[str], distinct] | None = None
    hold: Frames = 10
    steps: Frames | None = None
    mode: str = "autoregressive"


@dataclass(frozen=True)
class ActionControlConfig(ImagineConfig):
    """Rollouts that each hold one move of the robot, with the same initial frame and noise.

    Attributes:
        steps: Frames to imagine.
    """

    output: PathText = "runs/action_control"
    steps: Frames = 15


@dataclass(frozen=True)
class GateConfig(WorldModelSettings):
    """The validation gate that a world model must pass before it is bundled.

    Attributes:
        output: Folder for `gate.json`, `gate.md` and strips of frames.
        judge: Success judge (.safetensors); null is the bundled one.
        episodes: Folders with held-out episodes.
        limit: Episodes per task, in the order of their seeds.
        batch_size: Rollouts that run together; changes speed and rounding in the frames.
        run: Finished `v2w rank` folder of the same world model, for the closed-loop checks.
        trials: Table of trials on the (stand-in) robot; null is the bundled one.
        agreement: Smallest share of episodes whose judged success equals the recorded one.
        correlation: Smallest correlation over episodes between the imagined and the recorded change
            of the judge's measure, such as how far a drawer is open.
        null_rate: Largest simulated success rate of the policy that does nothing.
    """

    output: PathText = "runs/gate"
    judge: PathText | None = None
    episodes: Annotated[list[PathText], some] = field(
        default_factory=lambda: ["data/standin/held_out"]
    )
    limit: Amount = 100
    batch_size: BatchSize = 25
    run: PathText | None = None
    trials: PathText | None = None
    agreement: Share = 0.85
    correlation: Annotated[float, Range(-1, 1)] = 0.80
    null_rate: Share = 0.05
