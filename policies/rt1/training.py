"""Clone demonstrations into an RT-1 network. Read from top to bottom."""

import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from v2w_gym.configs.loader import from_mapping
from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ROBOTS
from v2w_gym.configs.rt1 import RT1_SIZES, RT1Config
from v2w_gym.configs.train import TrainPolicyConfig
from v2w_gym.policies.rt1.adam import follow, make_adam
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
from v2w_gym.policies.rt1.run import TrainingRun
from v2w_gym.policies.rt1.tokenizer import ActionTokenizer
from v2w_gym.world_models.device import in_precision, usable_device
from v2w_gym.world_models.files import check_writable
from v2w_gym.world_models.run_folder import hold_folder, identify_files
from v2w_gym.world_models.training_state import check_not_diverged

log = logging.getLogger(__name__)

RESULTS = ("output", "weights")
"""Settings that are no part of a card, for folders of results may be moved."""


def train(cfg: TrainPolicyConfig) -> list[Path]:
    """Train what `cfg` describes, or resume where its run folder stands.

    Batches, augmentation and dropout are functions of (seed, step), so on a CPU an interrupted and
    resumed run ends with the same weights as one that was never interrupted.

    Returns:
        The checkpoints, one per stage; without those that an earlier sitting put elsewhere.

    Raises:
        BlockingIOError: Another process trains in the folder.
        FileNotFoundError: No episodes.
        ValueError: A setting out of range, corrupt episodes, a stage outside the training, or a
            run folder of other settings.
        FloatingPointError: The loss or, unless `optimiser.nonfinite` says otherwise, the gradient
            is not finite.
    """
    check_settings(cfg)
    torch.set_flush_denormal(True)  # before any other call of torch: its threads inherit it
    torch.set_num_threads(cfg.threads)
    sizes, stages = network_sizes(cfg), stage_steps(cfg)
    with hold_folder(Path(cfg.output)) as folder:
        return _train(cfg, sizes, stages, TrainingRun(folder, _identity(cfg)))


def _train(
    cfg: TrainPolicyConfig, sizes: RT1Config, stages: Mapping[str, int], run: TrainingRun
) -> list[Path]:
    robot = lookup(ROBOTS, cfg.robot, "robot")
    tokenizer = ActionTokenizer(robot, sizes.bins)
    data, held_out, table = read_data(cfg, sizes, robot, tokenizer)
    check_writable(Path(cfg.weights), "weights")
    free = torch.from_numpy(tokenizer.free).to(cfg.device)
    torch.manual_seed(cfg.seed)
    network = RT1Network(sizes, len(tokenizer)).to(cfg.device)
    optimiser = make_adam(network, cfg.optimiser)
    done = run.load(network, optimiser)
    if not done and cfg.encoder_weights is not None:
        load_imagenet(network, Path(cfg.encoder_weights))
    steps = range(done, cfg.steps)
    batches = read_ahead(lambda step: draw_batch(data, cfg, sizes, step), steps, cfg.readers)
    bar = tqdm(steps, initial=done, total=cfg.steps, unit="step")
    for step in bar:
        windows = next(batches).to(cfg.device)
        torch.manual_seed(dropout_seed(cfg, step))
        with in_precision(cfg.precision, cfg.device):
            logits = predict(network.train(), windows)
        loss = token_loss(logits, windows.tokens, windows.mask, free)
        notes = follow(loss, network, optimiser, cfg, step)
        run.prove()
        run.note({"step": step + 1, **notes})
        bar.set_postfix(loss=f"{notes['loss']:.3f}")
        for name in [name for name, at in stages.items() if at == step + 1]:
            validation = validation_loss(network, held_out, cfg, free)
            run.note({"step": step + 1, "stage": name, "validation_loss": validation})
            log.info("%s at step %d: validation loss %s", name, step + 1, validation)
            card = {"step": step + 1, "validation_loss": validation, **_notes(cfg, run)}
            check_not_diverged(_in_half(network), f"stage {name} in half precision")
            save_rt1(_path(cfg, name), network, robot, table, card)
        if step + 1 == cfg.steps:
            run.save(network, optimiser, step + 1)
        elif (step + 1) % cfg.save_every == 0:
            run.save_if_next_step_is_finite(network, optimiser, step + 1)
    return _finished(cfg, stages)


def check_settings(cfg: TrainPolicyConfig) -> None:
    """Check what can be checked before anything is read.

    Raises:
        ValueError: No episodes, or a device that is not there.
    """
    if not cfg.episodes:
        raise ValueError("expected folders in episodes, found none; add episodes=[FOLDER]")
    usable_device(cfg.device)


def network_sizes(cfg: TrainPolicyConfig) -> RT1Config:
    """Return the sizes that `cfg` names, with what it changes.

    Raises:
        ValueError: Unknown sizes, or a size that the network does not or cannot have.
    """
    named = asdict(lookup(RT1_SIZES, cfg.size, "size"))
    sizes = from_mapping(RT1Config, {**named, **cfg.network}, "network")
    check_sizes(sizes)
    return sizes


def stage_steps(cfg: TrainPolicyConfig) -> dict[str, int]:
    """Return the number of steps after which each stage is saved.

    Raises:
        ValueError: No stages, or one outside the training.
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
    told = windows.told.repeat_interleave(history, 0)  # (B T, E)
    tokens = network.encode(windows.frames.flatten(0, 1), told)
    logits: Tensor = network(tokens.unflatten(0, (batch, history)))
    return logits


@torch.no_grad()
def validation_loss(
    network: RT1Network, data: Demonstrations | None, cfg: TrainPolicyConfig, free: Tensor
) -> float | None:
    """Return the loss on a fixed choice of windows as a policy sees them; None without data."""
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
    """Return the settings of a run, and what tells its data from others wherever they lie."""
    files = [Path(path) for path in (cfg.instructions, cfg.encoder_weights) if path is not None]
    data = {
        "episodes": identify_files(list_demonstrations(cfg.episodes)),
        "held_out": identify_files(list_demonstrations(cfg.held_out)),
        "files": identify_files([path for path in files if path.is_file()]),
    }
    return {**asdict(cfg), "data": data}


def _notes(cfg: TrainPolicyConfig, run: TrainingRun) -> dict[str, Any]:
    """Return what a card says of the training; folders of results may be moved."""
    train = {name: value for name, value in asdict(cfg).items() if name not in RESULTS}
    return {"train": train, "changes": run.changes}


def _in_half(network: RT1Network) -> dict[str, Tensor]:
    """Return the weights as a checkpoint stores them, where large ones become infinite."""
    weights = network.state_dict().items()
    return {name: value.half() for name, value in weights if value.is_floating_point()}


def _finished(cfg: TrainPolicyConfig, stages: Mapping[str, int]) -> list[Path]:
    """Return the checkpoints that lie where this sitting puts them; earlier ones may not."""
    paths = [_path(cfg, name) for name in stages]
    for path in paths:
        if not path.exists():
            log.warning(
                "%s was saved in another folder before; see the earlier weights=", path.name
            )
    return [path for path in paths if path.exists()]


def _path(cfg: TrainPolicyConfig, stage: str) -> Path:
    return Path(cfg.weights) / f"{stage}.safetensors"
