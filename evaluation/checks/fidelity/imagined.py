"""Imagine the same rollouts with one sampler after another, and time it."""

from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from v2w_gym.configs.checks import FidelityConfig
from v2w_gym.configs.evaluate import RolloutConfig
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.configs.tasks import Task
from v2w_gym.evaluation.checks.bench.bench import seconds
from v2w_gym.evaluation.imagine.replay import replay
from v2w_gym.evaluation.imagine.scenes import Scenes, choose_task, stack_scenes
from v2w_gym.world_models.data.decoding.arrays import open_arrays, reading
from v2w_gym.world_models.data.sources.opening import open_source
from v2w_gym.world_models.files import replacing
from v2w_gym.world_models.run_folder import RunFolder
from v2w_gym.world_models.state import FrameNoise
from v2w_gym.world_models.vid2world.model import Vid2World


@dataclass(frozen=True)
class Variant:
    """A world model with one sampler, and the seed of its noise."""

    name: str
    model: Vid2World
    seed: int


@dataclass(frozen=True)
class Imagined:
    """N rollouts of T steps, imagined with one sampler, and its speed.

    Attributes:
        frames: (N, T + 1, H, W, 3) uint8; the first is the newest initial one.
        seconds: Median time for one frame of one rollout, with decoding: processor time, or on a
            GPU wall time.
    """

    frames: NDArray[np.uint8]
    seconds: float


def load_scenes(cfg: FidelityConfig, robot: RobotSpec, known: int) -> Scenes:
    """Read or draw the rollouts of the settings, each with `known` initial frames."""
    task = choose_task(RolloutConfig(task=cfg.task), robot)
    return stack_scenes(_list_rollouts(cfg, task), task, robot, known, ", ".join(cfg.episodes))


def imagine(variant: Variant, scenes: Scenes, batch_size: int) -> Imagined:
    """Imagine every rollout; rollout i has the noise of episode i of the variant's seed."""
    model, (n, known), steps = variant.model, scenes.frames.shape[:2], scenes.actions.shape[1]
    videos, taken = [], []
    with tqdm(total=n * steps, unit="frame", desc=variant.name) as progress:
        for first in range(0, n, batch_size):
            rows = range(n)[first : first + batch_size]
            noise = FrameNoise((variant.seed,) * len(rows), tuple(rows), (known - 1,) * len(rows))
            given = scenes.frames[rows], scenes.known[rows], scenes.actions[rows]
            states = replay(model, *given, noise)
            next(states)
            frames, imagined = [scenes.frames[rows, -1]], map(model.render, states)
            for _ in range(steps):
                one_more = partial(frames.extend, islice(imagined, 1))
                taken.append(seconds(one_more, model.device) / len(rows))
                progress.update(len(rows))
            videos.append(np.stack(frames, axis=1))
    return Imagined(np.concatenate(videos), float(np.median(taken)))


def folder_of(cfg: FidelityConfig, variant: Variant) -> Path:
    """Return the folder of a variant's results."""
    return Path(cfg.output, "variants", variant.name)


def imagine_once(cfg: FidelityConfig, variant: Variant, scenes: Scenes) -> Imagined:
    """Return the result of `imagine`, which the variant's folder keeps."""
    identity = {"model": variant.model.fingerprint, "seed": variant.seed}
    path = RunFolder(folder_of(cfg, variant), identity).begin() / "replay.npz"
    if not path.exists():
        found = imagine(variant, scenes, cfg.batch_size)
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            np.savez(file, allow_pickle=False, frames=found.frames, seconds=found.seconds)
    advice = "delete it and run the same command again"
    with reading(path, f"imagined rollouts at {path}", advice), open_arrays(path) as saved:
        return Imagined(saved.read("frames"), float(saved.read("seconds")))


def _list_rollouts(cfg: FidelityConfig, task: Task) -> list[RolloutConfig]:
    """Return the settings with which `v2w rollout` would imagine each rollout."""
    starts: list[int | str] = list(range(cfg.limit))
    if cfg.episodes:
        # Recordings of the task count, and so do those without a task.
        of_task = (
            f"{text}#{number}"
            for text in cfg.episodes
            for number, episode in enumerate(open_source(text).read())
            if episode.task in (None, task.name)
        )
        starts = list(islice(of_task, cfg.limit))
    if len(starts) < 2:
        raise ValueError(
            f"expected at least 2 rollouts of {task.name}, found limit={cfg.limit} and "
            f"{len(starts)} of them{f' in {cfg.episodes}: {starts}' if cfg.episodes else ''}"
        )
    actions, steps = "recorded" if cfg.episodes else "held", cfg.steps or task.horizon
    shared = RolloutConfig(actions=actions, task=task.name, steps=steps, seed=cfg.seed)
    return [replace(shared, start=start, episode=n) for n, start in enumerate(starts)]
