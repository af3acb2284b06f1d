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
    """Which policies are run in which world model, and what they are compared with.

    Attributes:
        output: Run folder; the same command resumes there.
        judge: Success judge (.safetensors); None is the bundled one.
        policies: Names or paths, as `v2w_gym.policies.loading.make_policy` takes them.
        tasks: Which tasks; see `v2w_gym.configs.tasks`.
        starts: Bundled starts per task.
        seeds: Rollouts per start, each with noise of its own.
        batch_size: Rollouts that run together; changes speed, memory and rounding in the frames.
        trials: Table of trials on the (stand-in) robot; None is the bundled one.
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
    """Which policies are tried on the stand-in robot.

    Attributes:
        output: Table (.csv); the same command resumes it.
        policies: Names or paths, as `v2w_gym.policies.loading.make_policy` takes them.
        tasks: Which tasks; see `v2w_gym.configs.tasks`.
        starts: Bundled starts per task; one trial each.
    """

    output: PathText = "runs/trials.csv"
    policies: list[PathText] = field(default_factory=_policies)
    tasks: Annotated[list[str], some] = field(default_factory=_tasks)
    starts: Amount = 60


@dataclass(frozen=True)
class ImagineConfig(WorldModelSettings):
    """Where imagination begins, and where its results go.

    Attributes:
        output: Folder for the results; the same command resumes there.
        start: Number of a bundled start, or a picture, video or recorded episode.
        fit: Cut and resize frames of another size than the robot's.
        task: What the robot attempts; null is the first task of the robot.
        seed: Seed of everything random, together with episode.
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
    """What is done in a rollout, and for how long.

    Attributes:
        actions: recorded replays those of the start's recording, held draws moves at random, idle
            does nothing; or the actions (N, A) of a .npy file, or those of another recording. What
            was recorded beyond the robot's bounds is clipped and counted.
        policy: Who acts instead, closed loop, until it ends the episode: a name, path or URL as
            `v2w rank` takes it; null for nobody.
        instruction: What the policy is told; null for what the task says.
        moves: Names of the moves that held draws from; null is all of the robot's.
        hold: Frames for which a drawn move is held.
        steps: Frames to imagine; null for as many as there are actions, or the task's horizon.
        mode: autoregressive imagines frame by frame, past the window too; clip all at once.
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
    """How long each move of the robot is held, from the same start and with the same noise.

    Attributes:
        steps: Frames to imagine.
    """

    output: PathText = "runs/action_control"
    steps: Frames = 15


@dataclass(frozen=True)
class GateConfig(WorldModelSettings):
    """What a world model must show before it is bundled.

    Attributes:
        output: Folder for `gate.json`, `gate.md` and the strips.
        judge: Success judge (.safetensors); None is the bundled one.
        episodes: Folders with held-out episodes.
        limit: Episodes per task, the first by seed.
        batch_size: Rollouts that run together; changes speed and rounding in the frames.
        run: Finished `v2w rank` folder of the same world model, for the closed-loop checks.
        trials: Table of trials on the (stand-in) robot; None is the bundled one.
        agreement: Smallest share of episodes whose success is judged as it really was.
        correlation: Smallest correlation, over episodes, of the change in what the judge measures
            (such as an opening) with the recorded change.
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
