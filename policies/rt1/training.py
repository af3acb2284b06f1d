"""Train an RT-1 network on demonstrations (behaviour cloning)."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from v2w_gym.configs.loader import from_mapping
from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ROBOTS
from v2w_gym.configs.rt1 import RT1_SIZES, RT1Config
from v2w_gym.configs.train import TrainPolicyConfig
from v2w_gym.policies.rt1.batches import draw_batch, dropout_seed, read_ahead, read_data
from v2w_gym.policies.rt1.demonstrations import (
    Demonstrations,
    Windows,
    list_demonstrations,
    sample_windows,
)
from v2w_gym.policies.rt1.imagenet import load_imagenet
from v2w_gym.policies.rt1.loss import step_losses, token_loss
from v2w_gym.policies.rt1.network import RT1Network, check_sizes
from v2w_gym.policies.rt1.policy import save_rt1
from v2w_gym.policies.rt1.tokenizer import ActionTokenizer
from v2w_gym.world_models.device import in_precision, usable_device
from v2w_gym.world_models.files import check_writable
from v2w_gym.world_models.optimiser import Optimiser, check_not_diverged
from v2w_gym.world_models.run_folder import RunFolder, hold_folder, identify_files
from v2w_gym.world_models.schedules import Recipe

log = logging.getLogger(__name__)

SETTINGS, STATE, METRICS = "config.json", "train_state.pt", "metrics.jsonl"
RESULTS = ("output", "weights")
"""Settings that are not on a card, because folders of results may be moved."""
MAY_DIFFER = (
    *RESULTS,
    *("device", "readers", "save_every", "threads"),  # these change only rounding
    *("episodes", "held_out", "instructions", "encoder_weights"),  # paths; "data" is their content
    "optimiser.learning_rate",
)
"""Settings that may change when a run resumes."""


def train(cfg: TrainPolicyConfig) -> list[Path]:
    """Train the policy of `cfg`, or resume its run folder.

    Batches, augmentation and dropout are functions of (seed, step), so on a CPU an interrupted and
    resumed run ends with the same weights as one that was never interrupted.

    Returns:
        The checkpoints, one per stage, except those that an earlier run saved to another folder.

    Raises:
        BlockingIOError: Another process trains in the folder.
        FileNotFoundError: No episodes.
        ValueError: A setting is out of range, episodes are corrupt, a stage is outside the
            training, or the run folder has other settings.
        FloatingPointError: The loss or, unless `optimiser.nonfinite` says otherwise, the gradient
            is not finite.
    """
    check_settings(cfg)
    torch.set_flush_denormal(True)  # before any other call of torch: its threads inherit it
    torch.set_num_threads(cfg.threads)
    sizes, stages = network_sizes(cfg), stage_steps(cfg)
    with hold_folder(Path(cfg.output)) as folder:
        return _train(cfg, sizes, stages, folder)


def _train(
    cfg: TrainPolicyConfig, sizes: RT1Config, stages: Mapping[str, int], folder: Path
) -> list[Path]:
    run = RunFolder(folder, _identity(cfg), MAY_DIFFER, SETTINGS)
    robot = lookup(ROBOTS, cfg.robot, "robot")
    tokenizer = ActionTokenizer(robot, sizes.bins)
    data, held_out, table = read_data(cfg, sizes, robot, tokenizer)
    check_writable(Path(cfg.weights), "weights")
    run.begin()
    free = torch.from_numpy(tokenizer.free).to(cfg.device)
    torch.manual_seed(cfg.seed)
    network = RT1Network(sizes, len(tokenizer)).to(cfg.device)
    if cfg.encoder_weights is not None and not (folder / STATE).exists():
        load_imagenet(network, Path(cfg.encoder_weights))
    optimiser = Optimiser(network, _recipe(cfg), folder / STATE, folder / METRICS)
    steps = range(optimiser.steps_done, cfg.steps)
    batches = read_ahead(lambda step: draw_batch(data, cfg, sizes, step), steps, cfg.readers)
    for step in optimiser.remaining_steps():
        windows = next(batches).to(cfg.device)
        torch.manual_seed(dropout_seed(cfg, step))
        with in_precision(cfg.precision, cfg.device):
            logits = predict(network.train(), windows)
        optimiser.step(token_loss(logits, windows.tokens, windows.mask, free))
        for name in [name for name, at in stages.items() if at == step + 1]:
            validation = validation_loss(network, held_out, cfg, free)
            optimiser.note(stage=name, validation_loss=validation)
            log.info("%s at step %d: validation loss %s", name, step + 1, validation)
            card = {
                "step": step + 1,
                "validation_loss": validation,
                "train": _without_results(cfg),
                "changes": optimiser.changes,
            }
            check_not_diverged(_in_half(network), f"stage {name} in half precision")
            save_rt1(_path(cfg, name), network, robot, table, card)
    return _finished(cfg, stages)


def check_settings(cfg: TrainPolicyConfig) -> None:
    """Check settings before any data is read.

    Raises:
        ValueError: No episodes, or no such device.
    """
    if not cfg.episodes:
        raise ValueError("expected folders in episodes, found none; add episodes=[FOLDER]")
    usable_device(cfg.device)


def network_sizes(cfg: TrainPolicyConfig) -> RT1Config:
    """Return the network sizes of `cfg.size`, updated with `cfg.network`.

    Raises:
        ValueError: Unknown sizes, or an unknown or invalid size.
    """
    named = asdict(lookup(RT1_SIZES, cfg.size, "size"))
    sizes = from_mapping(RT1Config, {**named, **cfg.network}, "network")
    check_sizes(sizes)
    return sizes


def stage_steps(cfg: TrainPolicyConfig) -> dict[str, int]:
    """Return the number of steps after which each stage is saved.

    Raises:
        ValueError: No stages, or a stage outside the training.
    """
    if not cfg.stages:
        raise ValueError("expected at least one stage to save, found none; add stages.NAME=1.0")
    steps = {}
    for name, at in cfg.stages.items():
        steps[name] = at if isinstance(at, int) else max(1, round(at * cfg.steps))
        if not 0 < at <= (cfg.steps if isinstance(at, int) else 1):
            raise ValueError(
                f"expected stages.{name} as a step from 1 to {cfg.steps} or a share in (0.0, 1.0], "
                f"found {at}"
            )
    return steps


def predict(network: RT1Network, windows: Windows) -> Tensor:
    """Return the logits (B, T, A, V) of all steps of all windows."""
    batch, history = windows.mask.shape
    instructions = windows.instructions.repeat_interleave(history, 0)  # (B T, E)
    tokens = network.encode(windows.frames.flatten(0, 1), instructions)
    logits: Tensor = network(tokens.unflatten(0, (batch, history)))
    return logits


@torch.no_grad()
def validation_loss(
    network: RT1Network, data: Demonstrations | None, cfg: TrainPolicyConfig, free: Tensor
) -> float | None:
    """Return the loss on a fixed set of held-out windows; None without data."""
    if data is None:
        return None
    network.eval()
    rng, losses = np.random.default_rng(0), []
    for start in range(0, cfg.held_out_windows, cfg.batch_size):
        size = min(cfg.batch_size, cfg.held_out_windows - start)
        windows = sample_windows(data, size, network.cfg.history, rng).to(cfg.device)
        logits = predict(network, windows)
        losses.append(step_losses(logits, windows.tokens, free)[windows.mask])
    return torch.cat(losses).mean().item()


def _identity(cfg: TrainPolicyConfig) -> dict[str, Any]:
    """Return the settings of a run, and hashes of its data that do not depend on paths."""
    files = [Path(path) for path in (cfg.instructions, cfg.encoder_weights) if path is not None]
    data = {
        "episodes": identify_files(list_demonstrations(cfg.episodes)),
        "held_out": identify_files(list_demonstrations(cfg.held_out)),
        "files": identify_files([path for path in files if path.is_file()]),
    }
    return {**asdict(cfg), "data": data}


def _without_results(cfg: TrainPolicyConfig) -> dict[str, Any]:
    return {name: value for name, value in asdict(cfg).items() if name not in RESULTS}


def _recipe(cfg: TrainPolicyConfig) -> Recipe:
    adam = asdict(cfg.optimiser)
    return Recipe(cfg.steps, save_every=cfg.save_every, section="optimiser.", **adam)


def _in_half(network: RT1Network) -> dict[str, Tensor]:
    """Return the weights in half precision, in which large values become infinite."""
    weights = network.state_dict().items()
    return {name: value.half() for name, value in weights if value.is_floating_point()}


def _finished(cfg: TrainPolicyConfig, stages: Mapping[str, int]) -> list[Path]:
    """Return the checkpoints in `cfg.weights`, which may change when a run resumes."""
    paths = [_path(cfg, name) for name in stages]
    for path in paths:
        if not path.exists():
            log.warning(
                "%s was saved in another folder before; see the earlier weights=", path.name
            )
    return [path for path in paths if path.exists()]


def _path(cfg: TrainPolicyConfig, stage: str) -> Path:
    return Path(cfg.weights) / f"{stage}.safetensors"
