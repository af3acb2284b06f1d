"""Train the planner's perception to predict recorded positions from recorded frames."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ROBOTS, RobotSpec
from v2w_gym.configs.train import TrainPlannerConfig
from v2w_gym.policies.planner.perception import (
    SCALE,
    VALUES,
    PerceptionNetwork,
    check_channels,
    to_pixels,
)
from v2w_gym.policies.planner.policy import save_planner
from v2w_gym.world_models.checkpoint import check_free
from v2w_gym.world_models.data.decoding.array_frames import room_for
from v2w_gym.world_models.data.labelled import (
    LabelledEpisode,
    count_frames,
    list_labelled,
    load_robot_labelled,
)
from v2w_gym.world_models.optimiser import Optimiser, check_not_diverged
from v2w_gym.world_models.run_folder import RunFolder, hold_beside, identify_files
from v2w_gym.world_models.schedules import Recipe

SETTINGS, STATE, METRICS = "config.json", "train_planner.state", "metrics.jsonl"
MAY_DIFFER = ("output", "episodes", "held_out", "learning_rate", "threads", "save_every")
"""Settings that may change when a run resumes; for episodes, their content must be the same."""


def train(cfg: TrainPlannerConfig) -> dict[str, Any]:
    """Train a planner's perception, measure it on held-out frames, and save the policy.

    An older policy at the same path is replaced only at the end. Until then, the state to resume is
    beside it, in a folder whose name ends in `.training`.

    Returns:
        The provenance on the policy's card.

    Raises:
        BlockingIOError: Another process trains for the same file.
        FileNotFoundError: No episodes.
        ValueError: A setting is out of range, the output is not free, episodes are corrupt, of
            another robot or without recorded positions, or an interrupted run had other settings.
        FloatingPointError: The loss or its gradient is not finite.
    """
    check_free(Path(cfg.output))
    check_channels(cfg.channels)
    torch.set_flush_denormal(True)
    torch.set_num_threads(cfg.threads)
    with hold_beside(Path(cfg.output)) as folder:
        return _train(cfg, lookup(ROBOTS, cfg.robot, "robot"), folder)


def _train(cfg: TrainPlannerConfig, robot: RobotSpec, folder: Path) -> dict[str, Any]:
    data = [identify_files(list_labelled(folders)) for folders in (cfg.episodes, cfg.held_out)]
    settings = {**asdict(cfg), "data": data}
    run = RunFolder(folder, settings, MAY_DIFFER, SETTINGS)
    held_out = load_scenes(cfg.held_out, robot)
    frames, positions = load_scenes(cfg.episodes, robot)
    run.begin()
    torch.manual_seed(cfg.seed)
    network = PerceptionNetwork(cfg.channels)
    recipe = Recipe(cfg.steps, cfg.learning_rate, cfg.save_every, "one_cycle")
    optimiser = Optimiser(network, recipe, folder / STATE, folder / METRICS)
    for step in optimiser.remaining_steps():
        rng = np.random.default_rng([cfg.seed, step])
        rows = rng.integers(len(frames), size=cfg.batch_size)
        found = network(augment(to_pixels(frames[rows]), rng))
        error = F.smooth_l1_loss(found / SCALE, torch.from_numpy(positions[rows]) / SCALE, beta=0.1)
        optimiser.step(error)
    network.half().float()  # measure the rounded weights that are saved
    check_not_diverged(network.state_dict(), "the weights in half precision")
    train = {name: value for name, value in settings.items() if name != "output"}
    provenance = {
        "held_out": measure(network, *held_out),
        "train": train,
        "changes": optimiser.changes,
    }
    save_planner(Path(cfg.output), network, robot, provenance)
    return provenance


def load_scenes(
    folders: Sequence[str], robot: RobotSpec
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Read every frame (N, H, W, 3) and its `VALUES` (N, 5).

    Raises:
        FileNotFoundError: A folder without episodes.
        ValueError: An episode is corrupt, of another robot or without recorded positions.
    """
    paths = list_labelled(folders)
    frames, places = room_for([count_frames(path) for path in paths], robot.frame_size)
    positions = np.empty((len(frames), len(VALUES)), np.float32)
    for path, place in zip(tqdm(paths, unit="episode", desc="read"), places, strict=True):
        episode = load_robot_labelled(path, robot)
        frames[place], positions[place] = episode.frames, _positions(path, episode)
    return frames, positions


def _positions(path: Path, episode: LabelledEpisode) -> NDArray[np.float32]:
    """Return the `VALUES` (T, 5) of an episode."""
    state = episode.state
    missing = {"hand", "handle", "opening"} - set(state)
    if missing:
        raise ValueError(
            f"expected the state of hand, handle and opening in {path}, found no "
            f"{sorted(missing)}; record the episodes again with `v2w collect`"
        )
    hand, handle, opening = state["hand"], state["handle"], state["opening"]
    if (hand.shape[1:], handle.ndim, opening.ndim) != ((3,), 2, 1):
        raise ValueError(
            f"expected hand (T, 3), handle (T, 3) and opening (T,) in the state of {path}, found "
            f"{hand.shape}, {handle.shape} and {opening.shape}"
        )
    return np.concatenate((hand, handle[:, :1], opening[:, None]), axis=1)


@torch.no_grad()
def measure(
    network: PerceptionNetwork, frames: NDArray[np.uint8], positions: NDArray[np.float32]
) -> dict[str, Any]:
    """Compare a network's outputs with recorded positions; errors are in centimetres.

    Returns:
        JSON values: the number of frames, and the mean and 95 % quantile of each value's error.
    """
    batches = np.array_split(frames, -(-len(frames) // 256))
    found = np.concatenate([network(to_pixels(batch)).numpy() for batch in batches])
    error = 100 * np.abs(found - positions)
    return {
        "frames": len(frames),
        "mean_error_cm": _named(error.mean(0)),
        "error_95_percent_cm": _named(np.quantile(error, 0.95, axis=0)),
    }


def augment(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Make recorded frames (B, 3, H, W) look like imagined ones.

    Imagined frames are softer, noisier and slightly different in brightness. Half of the batch
    loses resolution, in two parts of different scale. Frames are not shifted, because the network
    learns positions.
    """
    size, _, height, width = frames.shape
    frames = frames.clone()
    for rows in (slice(0, size // 4), slice(size // 4, size // 2)):
        scale = rng.uniform(0.35, 0.9)
        small = F.interpolate(frames[rows], scale_factor=scale, mode="bilinear", antialias=True)
        frames[rows] = F.interpolate(small, (height, width), mode="bilinear")
    gain, tint, spread, noise = (
        torch.from_numpy(draw.astype(np.float32))
        for draw in (
            rng.uniform(0.85, 1.15, (size, 1, 1, 1)),
            rng.uniform(-0.1, 0.1, (size, 3, 1, 1)),
            rng.uniform(0, 0.08, (size, 1, 1, 1)),
            rng.standard_normal(frames.shape, np.float32),
        )
    )
    return (frames * gain + tint + spread * noise).clamp(-1, 1)


def _named(values: NDArray[np.floating[Any]]) -> dict[str, float]:
    return {name: round(float(value), 3) for name, value in zip(VALUES, values, strict=True)}
