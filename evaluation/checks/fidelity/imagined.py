"""Imagine the same rollouts with one sampler after another, and time it."""

import hashlib
import time
from dataclasses import dataclass
from itertools import islice
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from v2w_gym.configs.checks import FidelityConfig
from v2w_gym.configs.evaluate import RolloutConfig
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.configs.tasks import Task
from v2w_gym.evaluation.checks.bench.bench import seconds
from v2w_gym.evaluation.checks.bench.models import device_of
from v2w_gym.evaluation.imagine.replay import replay
from v2w_gym.evaluation.imagine.scenes import choose_task, load_context, write_script
from v2w_gym.world_models.data.arrays import DAMAGED
from v2w_gym.world_models.data.episodes import list_episodes
from v2w_gym.world_models.data.recorded_actions import NO_MISFITS, tell
from v2w_gym.world_models.data.recording import load_recording
from v2w_gym.world_models.files import replacing
from v2w_gym.world_models.state import FrameNoise
from v2w_gym.world_models.vid2world.model import Vid2World

PROCESS = str(time.time_ns())
"""Tells this process from earlier ones; times of different processes are not compared."""


@dataclass(frozen=True)
class Variant:
    """A world model with one sampler, and the seed of its noise."""

    name: str
    model: Vid2World
    seed: int


@dataclass(frozen=True)
class Scenes:
    """N rollouts of equal length that every sampler imagines.

    Attributes:
        task: Name of what is attempted.
        frames: (N, K, H, W, 3) uint8, what each begins with.
        known: (N, K - 1, A) actions taken between those; NaN where an action is not known.
        actions: (N, T, A) actions taken from there on.
        recorded: (N, T + 1, H, W, 3) uint8, what a camera saw of it from the newest known frame
            on; None where nobody took these actions.
    """

    task: str
    frames: NDArray[np.uint8]
    known: NDArray[np.float32]
    actions: NDArray[np.float32]
    recorded: NDArray[np.uint8] | None

    @property
    def steps(self) -> int:
        """Frames imagined in each (T)."""
        return self.actions.shape[1]

    @property
    def digest(self) -> str:
        """The sha256 of everything a sampler is given."""
        arrays = self.frames, self.known, self.actions
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


@dataclass(frozen=True)
class Imagined:
    """What one sampler imagined of N rollouts of T steps, and how fast.

    Attributes:
        latents: (N, T, C, h, w) float32.
        frames: (N, T + 1, H, W, 3) uint8; the first is the newest known one.
        seconds: Median time for one frame of one rollout, decoding included; of the processor, or
            on a GPU by the clock.
        process: Where the time was taken, see `PROCESS`.
    """

    latents: NDArray[np.float32]
    frames: NDArray[np.uint8]
    seconds: float
    process: str


def load_scenes(cfg: FidelityConfig, robot: RobotSpec, known: int) -> Scenes:
    """Read or draw the rollouts that are asked for; `known` is how many frames begin each.

    Raises:
        FileNotFoundError: A folder without episodes.
        ValueError: Fewer than two rollouts, no such start, or an episode that is damaged, too
            short, or of another robot.
    """
    task = choose_task(RolloutConfig(task=cfg.task), robot)
    contexts, scripts = [], []
    for rollout in list_rollouts(cfg, task):
        context = load_context(rollout, robot, known)
        if len(context.frames) != known:
            raise ValueError(
                f"expected at least {known} frames to begin with in {rollout.start}, found "
                f"{len(context.frames)}"
            )
        contexts.append(context)
        scripts.append(write_script(rollout, robot, known, inf))
    tell(sum((script.misfits for script in scripts), NO_MISFITS), ", ".join(cfg.episodes))
    recorded = [script.recorded for script in scripts if script.recorded is not None]
    return Scenes(
        task=task.name,
        frames=np.stack([context.frames for context in contexts]),
        known=np.stack([context.actions for context in contexts]),
        actions=np.stack([script.actions for script in scripts]),
        recorded=np.stack(recorded) if recorded else None,
    )


def list_rollouts(cfg: FidelityConfig, task: Task) -> list[RolloutConfig]:
    """Return the settings with which `v2w rollout` would imagine each rollout.

    Raises:
        FileNotFoundError: A folder without episodes.
        ValueError: Fewer than two rollouts, or a damaged episode.
    """
    starts: list[int | str] = list(range(cfg.limit))
    if cfg.episodes:
        # A recording counts if it is of the task, or does not say of which.
        paths = (
            str(path)
            for path in list_episodes(cfg.episodes)
            if load_recording(path, count=1).task in (None, task.name)
        )
        starts = list(islice(paths, max(cfg.limit, 0)))
    if len(starts) < 2:
        raise ValueError(
            f"expected at least 2 rollouts of {task.name}, found limit={cfg.limit} and "
            f"{len(starts)} of them{f' in {cfg.episodes}: {starts}' if cfg.episodes else ''}"
        )
    actions = "recorded" if cfg.episodes else "held"
    steps = task.horizon if cfg.steps is None else cfg.steps
    return [
        RolloutConfig(
            start=start, actions=actions, task=task.name, steps=steps, seed=cfg.seed, episode=number
        )
        for number, start in enumerate(starts)
    ]


def imagine(variant: Variant, scenes: Scenes, batch_size: int) -> Imagined:
    """Imagine every rollout; rollout i has the noise of episode i of the variant's seed."""
    rows = list(range(len(scenes.frames)))
    batches, taken = [], []
    with tqdm(total=len(rows) * scenes.steps, unit="frame", desc=variant.name) as progress:
        for first in rows[::batch_size]:
            batch = _Batch(variant, scenes, rows[first : first + batch_size])
            batches.append(batch)
            for _ in range(scenes.steps):
                size = len(batch.frames[0])
                taken.append(seconds(batch.advance, device_of(variant.model)) / size)
                progress.update(size)
    return Imagined(
        latents=np.concatenate([np.stack(batch.latents, axis=1) for batch in batches]),
        frames=np.concatenate([np.stack(batch.frames, axis=1) for batch in batches]),
        seconds=float(np.median(taken)),
        process=PROCESS,
    )


class _Batch:
    """Rollouts that are imagined together: rows of the scenes."""

    def __init__(self, variant: Variant, scenes: Scenes, rows: list[int]) -> None:
        frames, newest = scenes.frames[rows], scenes.frames.shape[1] - 1
        noise = FrameNoise((variant.seed,) * len(rows), tuple(rows), (newest,) * len(rows))
        given = frames, scenes.known[rows], scenes.actions[rows]
        self._model, self._states = variant.model, replay(variant.model, *given, noise)
        next(self._states)
        self.latents: list[NDArray[np.float32]] = []
        self.frames = [frames[:, -1]]

    def advance(self) -> None:
        """Imagine one more frame and decode it."""
        state = next(self._states)
        self.latents.append(state.latents[:, -1].float().cpu().numpy())
        self.frames.append(self._model.render(state))


def save_imagined(path: Path, found: Imagined) -> None:
    """Write one `.npz`; it appears whole or not at all."""
    arrays = {name: np.asarray(value) for name, value in vars(found).items()}
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_imagined(path: Path) -> Imagined:
    """Read what `save_imagined` wrote.

    Raises:
        ValueError: A damaged file.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            time_taken, process = float(file["seconds"]), str(file["process"])
            return Imagined(file["latents"], file["frames"], time_taken, process)
    except (*DAMAGED, TypeError) as error:
        raise ValueError(
            f"expected imagined rollouts at {path}, found a damaged file "
            f"({type(error).__name__}); delete it and run the same command again"
        ) from error
