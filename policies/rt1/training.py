"""Clone the expert into an RT-1 network. Read from top to bottom."""

import json
import logging
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from configs.lookup import lookup
from configs.policy import TrainPolicyConfig
from configs.robots import ROBOTS
from policies.instructions import InstructionTable, make_table
from policies.rt1.demonstrations import (
    Demonstrations,
    Windows,
    load_demonstrations,
    sample_windows,
)
from policies.rt1.network import RT1Network
from policies.rt1.policy import save_rt1
from policies.rt1.tokenizer import ActionTokenizer
from world_models.checkpoint import replacing

VALIDATION_WINDOWS = 256

log = logging.getLogger(__name__)


def train(cfg: TrainPolicyConfig) -> list[Path]:
    """Train what `cfg` describes, or resume where its run folder stands.

    Batches, shifts and dropout are functions of (seed, step), so an interrupted and resumed run
    ends with the same weights as one that was never interrupted.

    Returns:
        The checkpoints, one per stage.

    Raises:
        FileNotFoundError: No episodes.
        ValueError: Corrupt episodes, stages outside (0, 1], or a run folder of other settings.
    """
    torch.set_flush_denormal(True)
    torch.set_num_threads(cfg.threads)
    stages = _stage_steps(cfg)
    robot = lookup(ROBOTS, cfg.robot, "robot")
    tokenizer = ActionTokenizer(robot, cfg.network.bins)
    data = load_demonstrations(cfg.episodes, robot, tokenizer)
    held_out = load_demonstrations(cfg.held_out, robot, tokenizer)
    table = make_table(list(np.unique(data.instructions)), cfg.network.instruction_size)
    torch.manual_seed(cfg.seed)
    network = RT1Network(cfg.network, len(tokenizer))
    optimizer = torch.optim.AdamW(network.parameters(), lr=cfg.learning_rate)
    state = Path(cfg.output) / "train_state.pt"
    done = _load_state(state, cfg, network, optimizer)
    progress = tqdm(range(done, cfg.steps), initial=done, total=cfg.steps, unit="step")
    for step in progress:
        rng = np.random.default_rng([cfg.seed, step])
        windows = sample_windows(data, cfg.batch_size, cfg.network.history, cfg.shift, rng)
        torch.manual_seed(int(rng.integers(2**63)))  # dropout
        loss = token_loss(network.train(), windows, table, tokenizer)
        _follow(loss, network, optimizer, cfg, step)
        if step % 50 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}")
        for name in (name for name, at in stages.items() if at == step + 1):
            validation = validation_loss(network, held_out, table, tokenizer)
            log.info("%s at step %d: validation loss %.3f", name, step + 1, validation)
            notes = {"step": step + 1, "validation_loss": validation, "train": asdict(cfg)}
            save_rt1(_path(cfg, name), network, robot, table, notes)
        if (step + 1) % cfg.save_every == 0 or step + 1 == cfg.steps:
            _save_state(state, cfg, network, optimizer, step + 1)
    return [_path(cfg, name) for name in stages]


def token_loss(
    network: RT1Network, windows: Windows, table: InstructionTable, tokenizer: ActionTokenizer
) -> Tensor:
    """Return the mean cross-entropy over real steps and over tokens that the robot can act on.

    Every step of a window counts, as in RT-1.
    """
    batch, history = windows.mask.shape
    rows = [table.row(text) for text in windows.instructions]
    told = torch.from_numpy(table.vectors[rows]).repeat_interleave(history, 0)  # (B T, E)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = network.encode(windows.frames.flatten(0, 1), told)
        logits = network(tokens.unflatten(0, (batch, history)))
    free = torch.from_numpy(tokenizer.free)
    chosen, target = logits[windows.mask][:, free], windows.tokens[windows.mask][:, free]
    return F.cross_entropy(chosen.flatten(0, 1).float(), target.flatten())


def validation_loss(
    network: RT1Network, data: Demonstrations, table: InstructionTable, tokenizer: ActionTokenizer
) -> float:
    """Return the loss on a fixed choice of windows, without shifts and dropout."""
    rng = np.random.default_rng(0)
    windows = sample_windows(data, VALIDATION_WINDOWS, network.cfg.history, 0, rng)
    with torch.no_grad():
        return token_loss(network.eval(), windows, table, tokenizer).item()


def learning_rate(cfg: TrainPolicyConfig, step: int) -> float:
    """Return the rate at a step: linear warm-up, then a cosine to zero."""
    warm = min(1.0, (step + 1) / cfg.warmup)
    return cfg.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / cfg.steps))


def _follow(
    loss: Tensor,
    network: RT1Network,
    optimizer: torch.optim.Optimizer,
    cfg: TrainPolicyConfig,
    step: int,
) -> None:
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"expected a finite loss at step {step}, found {loss.item()}; lower learning_rate"
        )
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(cfg, step)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), cfg.clip_norm)
    optimizer.step()


def _stage_steps(cfg: TrainPolicyConfig) -> dict[str, int]:
    for name, share in cfg.stages.items():
        if not 0 < share <= 1:
            raise ValueError(f"expected stages.{name} in (0, 1], found {share}")
    return {name: max(1, round(share * cfg.steps)) for name, share in cfg.stages.items()}


def _path(cfg: TrainPolicyConfig, stage: str) -> Path:
    return Path(cfg.weights) / f"{stage}.safetensors"


def _save_state(
    path: Path,
    cfg: TrainPolicyConfig,
    network: RT1Network,
    optimizer: torch.optim.Optimizer,
    done: int,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "config": json.dumps(asdict(cfg)),
        "done": done,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with replacing(path) as partial:
        torch.save(state, partial)


def _load_state(
    path: Path, cfg: TrainPolicyConfig, network: RT1Network, optimizer: torch.optim.Optimizer
) -> int:
    """Restore a run and return the number of steps it has done."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    if json.loads(state["config"]) != json.loads(json.dumps(asdict(cfg))):
        raise ValueError(
            f"expected {path} to be a run of the present settings, found one of "
            f"{state['config']}; choose another output folder or restore those settings"
        )
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["done"])
