"""Train the drawer judge on recorded frames, and measure it on held-out episodes."""

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
from v2w_gym.configs.train import JudgeTrainConfig
from v2w_gym.evaluation.compare.statistics import wilson
from v2w_gym.evaluation.judges.checks import load_judged_episode
from v2w_gym.judges.drawer import (
    KIND,
    READABLE_SIGMA,
    SCALE,
    DrawerJudge,
    OpeningNetwork,
    judge_openings,
    make_judge,
)
from v2w_gym.world_models.checkpoint import check_free, load_checkpoint, save_checkpoint
from v2w_gym.world_models.data.decoding.array_frames import room_for
from v2w_gym.world_models.data.labelled import (
    LabelledEpisode,
    count_frames,
    list_labelled,
    load_labelled,
)
from v2w_gym.world_models.frames import to_tensor
from v2w_gym.world_models.optimiser import Optimiser, check_not_diverged
from v2w_gym.world_models.run_folder import RunFolder, hold_beside, identify_files
from v2w_gym.world_models.schedules import Recipe

SETTINGS, STATE, METRICS = "config.json", "train_judge.state", "metrics.jsonl"
MAY_DIFFER = ("output", "episodes", "held_out", "learning_rate", "threads", "save_every")
"""Settings that may change when a run is resumed. Of episodes, the content is compared."""
WEIGHT_DECAY = 1e-4
BINS = np.linspace(0.0, 0.16, 17)
"""Openings, in metres, between which training frames are drawn equally often."""


def train_judge(cfg: JudgeTrainConfig) -> DrawerJudge:
    """Train a judge, measure it on held-out episodes, and save it with its card.

    An older judge stays in place until the training ends. Until then, the files for resuming lie
    beside it, in a folder whose name ends in `.training`.

    Raises:
        BlockingIOError: Another process trains for the same file.
        FileNotFoundError: No episodes to train on or to measure with.
        FloatingPointError: The loss or its gradient is not finite.
        ValueError: An output that is not free, a damaged episode, or one of another robot, task or
            kind, or an interrupted run of other settings.
    """
    check_free(Path(cfg.output))
    torch.set_num_threads(cfg.threads)
    with hold_beside(Path(cfg.output)) as folder:
        _train(cfg, folder)
    return make_judge(Path(cfg.output), *load_checkpoint(Path(cfg.output)))


def _train(cfg: JudgeTrainConfig, folder: Path) -> None:
    paths = {"episodes": list_labelled(cfg.episodes), "held_out": list_labelled(cfg.held_out)}
    data = {name: identify_files(files) for name, files in paths.items()}
    run = RunFolder(folder, {**asdict(cfg), "data": data}, MAY_DIFFER, SETTINGS)
    torch.manual_seed(cfg.seed)
    robot_name = load_labelled(paths["held_out"][0]).robot
    robot = lookup(ROBOTS, robot_name, f"the robot of {paths['held_out'][0]}")
    held_out = [
        load_judged_episode(path, robot, DrawerJudge.quantity) for path in paths["held_out"]
    ]
    frames, openings = _load_frames(paths["episodes"], robot)
    run.begin()
    network, changes = _fit(cfg, frames, openings, folder)
    try:
        accuracy = measure(DrawerJudge(network, {"sha256": ""}), held_out)
    except ValueError:
        for name in (SETTINGS, STATE, METRICS):  # nothing to resume: other settings may begin
            (folder / name).unlink(missing_ok=True)
        raise
    card: dict[str, Any] = {
        "kind": KIND,
        "robot": robot.name,
        "trained_on": f"{len(frames)} recorded frames of {', '.join(cfg.episodes)}",
        "steps": cfg.steps,
        "seed": cfg.seed,
        "changes": changes,
        "held_out": accuracy,
    }
    check_not_diverged(network.state_dict(), "the weights")
    save_checkpoint(Path(cfg.output), network.state_dict(), card)


def measure(judge: DrawerJudge, episodes: Sequence[LabelledEpisode]) -> dict[str, Any]:
    """Compare a judge with the simulator's own state: errors per frame, agreement per episode.

    Returns:
        JSON values. Errors cover readable frames. Agreement covers episodes without abstention.

    Raises:
        ValueError: The judge can read no frame.
    """
    readings = [judge.opening(episode.frames) for episode in episodes]
    truths = [episode.state["opening"].astype(np.float64) for episode in episodes]
    opening, sigma = (np.concatenate(parts) for parts in zip(*readings, strict=True))
    error = np.abs(opening - np.concatenate(truths)) * 100
    readable = sigma <= READABLE_SIGMA
    if not readable.any():
        raise ValueError("expected a judge that can read frames, found none it can; train longer")
    result: dict[str, Any] = {
        "frames": len(error),
        "mean_error_cm": _rounded(error[readable].mean()),
        "error_95_percent_cm": _rounded(np.quantile(error[readable], 0.95)),
        "unreadable_frames": int((~readable).sum()),
    }
    for task in sorted({episode.task for episode in episodes}):
        chosen = [i for i, episode in enumerate(episodes) if episode.task == task]
        result[task] = _agreement([readings[i] for i in chosen], [truths[i] for i in chosen], task)
    return result


def _agreement(
    readings: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    truths: Sequence[NDArray[np.float64]],
    task: str,
) -> dict[str, Any]:
    verdicts = [judge_openings(o[None], s[None], task) for o, s in readings]
    truth = np.array(
        [judge_openings(t[None], np.full_like(t, 1e-6)[None], task).success[0] for t in truths]
    )
    judged = np.array([v.success[0] for v in verdicts])
    kept = ~np.array([v.abstained[0] for v in verdicts])
    agreed, n = int((judged == truth)[kept].sum()), int(kept.sum())
    low, high = wilson(agreed, n)
    return {
        "episodes": len(truth),
        "solved": int(truth.sum()),
        "abstained": len(truth) - n,
        "judged": n,
        "agreed": agreed,
        "agreement": _rounded(agreed / max(n, 1)),
        "agreement_95_percent": [_rounded(low), _rounded(high)],
        "false_successes": int((judged & ~truth)[kept].sum()),
        "false_failures": int((~judged & truth)[kept].sum()),
    }


def _load_frames(
    paths: Sequence[Path], robot: RobotSpec
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Read every frame (N, H, W, 3) and its drawer opening (N,), in metres."""
    frames, places = room_for([count_frames(path) for path in paths], robot.frame_size)
    openings = np.empty(len(frames), np.float32)
    for path, place in zip(tqdm(paths, unit="episode", desc="read"), places, strict=True):
        episode = load_judged_episode(path, robot, DrawerJudge.quantity)
        frames[place], openings[place] = episode.frames, episode.state["opening"]
    return frames, openings


def _fit(
    cfg: JudgeTrainConfig, frames: NDArray[np.uint8], openings: NDArray[np.float32], folder: Path
) -> tuple[OpeningNetwork, list[str]]:
    """Minimise the Gaussian negative log-likelihood; weights keep uncertain frames in the mean.

    Returns:
        The network, and `Optimiser.changes`.

    Source: Seitzer et al., "On the Pitfalls of Heteroscedastic Uncertainty Estimation with
    Probabilistic Neural Networks", ICLR 2022: beta-NLL with beta = 0.5.
    """
    rng = np.random.default_rng(cfg.seed)
    bins = np.digitize(openings, BINS)
    members = [np.flatnonzero(bins == b) for b in np.unique(bins)]
    network = OpeningNetwork()
    recipe = Recipe(
        cfg.steps, cfg.learning_rate, cfg.save_every, "one_cycle", weight_decay=WEIGHT_DECAY
    )
    optimiser = Optimiser(network, recipe, folder / STATE, folder / METRICS, rng)
    for _ in optimiser.remaining_steps():
        rows = np.array(
            [rng.choice(members[b]) for b in rng.integers(len(members), size=cfg.batch_size)]
        )
        mean, log_variance = network(augment(to_tensor(frames[rows]), rng))
        target = torch.from_numpy(openings[rows]) / SCALE
        # Negative log-likelihood of the target t under N(m, v), up to a constant:
        #   (log v + (t - m)^2 / v) / 2,
        # weighted by v^beta with beta = 1/2. No gradient flows through the weight.
        likelihood = 0.5 * (log_variance + (target - mean) ** 2 / log_variance.exp())
        optimiser.step((likelihood * (0.5 * log_variance).exp().detach()).mean())
    return network, optimiser.changes


def augment(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Make recorded frames (B, 3, H, W) look like imagined ones, and hide some drawers.

    Imagined frames are softer, noisier and slightly off in brightness and place. So a quarter of
    the batch is blurred, and a quarter loses resolution. An eighth is mixed with a second frame and
    an eighth gets a painted patch: for these, the network learns to predict a large variance.
    """
    size, _, height, width = frames.shape
    frames = frames.clone()
    quarter, eighth = size // 4, size // 8
    frames[:quarter] = F.avg_pool2d(frames[:quarter], 3, 1, 1, count_include_pad=False)
    small = F.interpolate(
        frames[quarter : 2 * quarter], scale_factor=rng.uniform(0.35, 0.8), mode="area"
    )
    frames[quarter : 2 * quarter] = F.interpolate(small, size=(height, width), mode="bilinear")
    order = torch.from_numpy(rng.permutation(size))
    ghosts = order[:eighth]
    frames[ghosts] = 0.5 * (frames[ghosts] + frames[order[eighth : 2 * eighth]])
    for row in order[size - eighth :]:
        _paint_patch(frames[row], rng)
    frames = _shifted(frames, rng)
    gain = torch.from_numpy(rng.uniform(0.9, 1.1, (size, 1, 1, 1)).astype(np.float32))
    tint = torch.from_numpy(rng.uniform(-0.1, 0.1, (size, 3, 1, 1)).astype(np.float32))
    spread = torch.from_numpy(rng.uniform(0, 0.08, (size, 1, 1, 1)).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal(frames.shape, dtype=np.float32))
    return (frames * gain + tint + spread * noise).clamp(-1, 1)


def _paint_patch(frame: Tensor, rng: np.random.Generator) -> None:
    """Cover a rectangle of one frame (3, H, W), in place, with its mean colour or a grey."""
    high, wide = (int(side) for side in rng.integers(12, 40, size=2))
    top, left = (int(rng.integers(-6, side - 6)) for side in frame.shape[1:])
    patch = frame[:, max(top, 0) : top + high, max(left, 0) : left + wide]
    grey = torch.full((3, 1, 1), rng.uniform(-1, 1))
    patch[:] = patch.mean(dim=(1, 2), keepdim=True) if rng.random() < 0.5 else grey


def _shifted(frames: Tensor, rng: np.random.Generator) -> Tensor:
    """Shift all frames (B, 3, H, W) by the same amount, at most one pixel each way."""
    down, right = (int(shift) for shift in rng.integers(0, 3, size=2))
    height, width = frames.shape[2:]
    padded = F.pad(frames, (1, 1, 1, 1), mode="replicate")
    return padded[:, :, down : down + height, right : right + width]


def _rounded(value: float) -> float:
    return round(float(value), 3)
