"""RT-1 as a policy, and its checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_gym.configs.robots import RobotSpec
from v2w_gym.configs.rt1 import RT1Config
from v2w_gym.policies.base import ActionBatch, PolicyMeta, check_frames, check_reset, renew
from v2w_gym.policies.cards import as_on_card, check_card
from v2w_gym.policies.instructions import InstructionTable
from v2w_gym.policies.rt1.network import RT1Network, check_sizes
from v2w_gym.policies.rt1.token_history import TokenHistory
from v2w_gym.policies.rt1.tokenizer import MODES, ActionTokenizer
from v2w_gym.world_models.checkpoint import (
    check_finite,
    config_on_card,
    load_checkpoint,
    make_network,
    read_card,
    save_checkpoint,
)
from v2w_gym.world_models.device import usable_device

KIND = "rt1"
OUT_OF_RANGE = "terminate token out of range"
SHARED_NETWORKS = 8
"""Networks that are kept after loading, for further policies from the same files."""


class RT1Policy:
    """Acts with the likeliest tokens, as RT-1 does."""

    def __init__(
        self,
        network: RT1Network,
        robot: RobotSpec,
        table: InstructionTable,
        name: str,
        *,
        fingerprint: str = "",
        group: int | None = None,
    ) -> None:
        """Wrap a trained network, which may be shared with other policies.

        Args:
            network: On the device where it shall run.
            robot: The robot of its actions.
            table: The instructions that it knows.
            name: Label in tables and plots.
            fingerprint: sha256 of its weights.
            group: Slots that are computed together; see `v2w_gym.policies.rt1.token_history.GROUP`.

        Raises:
            ValueError: The table's vectors do not fit the network.
        """
        cfg = network.cfg
        if table.vectors.shape[1] != cfg.instruction_size:
            raise ValueError(
                f"expected instruction vectors of {cfg.instruction_size} values for policy "
                f"{name!r}, found {table.vectors.shape[1]}; use a table from the encoder with "
                "which the policy was trained"
            )
        self.meta = PolicyMeta(
            name,
            robot.action_layout.name,
            cfg.image_size,
            robot.control_hz,
            history=cfg.history,
            fingerprint=fingerprint,
        )
        self._robot = robot
        self.table = table
        self.tokenizer = ActionTokenizer(robot, cfg.bins)
        self.token_history = TokenHistory(network, group)
        self._instructions: list[str] = []

    def reset(
        self,
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        slots: Sequence[int] | None = None,
    ) -> None:
        """See `Policy.reset`; the seeds are ignored."""
        check_reset(self.meta, instructions, seeds, slots, len(self._instructions))
        renewed = renew(self._instructions, instructions, slots)
        rows = [self.table.row(text) for text in renewed]
        self.token_history.reset(self.table.vectors[rows], slots)
        self._instructions = renewed

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
        """See `Policy.act`."""
        check_frames(self.meta, len(self.token_history.lengths), frames, active)
        actions = np.tile(self._robot.make_action(), (len(frames), 1, 1))
        slots = np.flatnonzero(active)
        if not len(slots):
            return ActionBatch(actions)
        logits = self.token_history.step(frames[slots], slots)
        if not torch.isfinite(logits).all():  # argmax would return an action even for NaN
            raise ValueError(
                f"expected finite logits from policy {self.meta.name!r}, found NaN or infinity; "
                "check its weights and its table of instructions"
            )
        tokens = logits.argmax(-1).numpy()
        actions[slots, 0] = self.tokenizer.decode(tokens)
        odd = slots[tokens[:, 0] >= MODES]
        return ActionBatch(actions, tuple((int(slot), OUT_OF_RANGE) for slot in odd))

    def close(self) -> None:
        """See `Policy.close`."""


def save_rt1(
    path: Path,
    network: RT1Network,
    robot: RobotSpec,
    table: InstructionTable,
    provenance: Mapping[str, Any],
    *,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a checkpoint, by default in half precision.

    Args:
        path: File of the weights; the card is written beside it.
        network: The network.
        robot: The robot of its actions.
        table: The instructions that it knows.
        provenance: JSON values for the card, such as its training data.
        dtype: Type of the stored weights.

    Raises:
        OSError: The file cannot be written.
        ValueError: Weights are not finite, or overflow `dtype`.
    """
    weights = {
        f"network.{name}": value.to("cpu", dtype)
        for name, value in network.state_dict().items()
        if value.is_floating_point()  # skip the batch counters of batch norms
    }
    check_finite(path, weights)
    card = {
        "kind": KIND,
        "robot": robot.name,
        "network": asdict(network.cfg),
        "instructions": list(table.texts),
        **provenance,
    }
    save_checkpoint(path, {**weights, "instructions": torch.from_numpy(table.vectors)}, card)


def load_rt1(
    path: Path,
    robot: RobotSpec,
    *,
    device: str = "cpu",
    table: InstructionTable | None = None,
) -> RT1Policy:
    """Read a checkpoint; the policy is named after the file.

    Policies from one file share their weights.

    Args:
        path: File of the weights; the card is beside it.
        robot: The robot on which the policy acts.
        device: Device of the network, such as cuda.
        table: Instructions that replace those in the checkpoint.

    Raises:
        FileNotFoundError: No checkpoint at `path`.
        ValueError: The checkpoint is damaged, no RT-1 or for another robot, the table does not fit,
            or there is no such device.
    """
    sha256 = (read_card(path) or {}).get("sha256", "")
    network, known = _load(path.absolute(), sha256, robot, device)
    return RT1Policy(network, robot, table or known, path.stem, fingerprint=sha256)


@lru_cache(SHARED_NETWORKS)
def _load(
    path: Path, sha256: str, robot: RobotSpec, device: str
) -> tuple[RT1Network, InstructionTable]:
    """Read network and instructions; `sha256` makes the cache read a replaced file again."""
    tensors, card = load_checkpoint(path)
    check_card(path, card, KIND, robot, "instructions", "network")
    table = _read_table(path, card, tensors.pop("instructions", None))
    cfg = _read_config(path, card)
    tokens = len(ActionTokenizer(robot, cfg.bins))
    weights = {name.removeprefix("network."): value for name, value in tensors.items()}
    network = make_network(path, lambda: RT1Network(cfg, tokens), weights)
    return network.to(usable_device(device)).eval().requires_grad_(False), table


def _read_table(path: Path, card: Mapping[str, Any], vectors: Tensor | None) -> InstructionTable:
    texts = card["instructions"]
    if not isinstance(texts, list) or not all(isinstance(t, str) for t in texts) or vectors is None:
        raise ValueError(
            f"expected a list of instructions on the card of {path} and their vectors beside the "
            "weights, found something else; copy weights and card again"
        )
    try:
        return InstructionTable(tuple(texts), vectors.float().numpy())
    except ValueError as error:
        raise ValueError(f"{error}; the checkpoint is {path}") from error


def _read_config(path: Path, card: Mapping[str, Any]) -> RT1Config:
    sizes = card["network"] if isinstance(card["network"], dict) else {}
    expected, found = {field.name for field in fields(RT1Config)}, set(sizes)
    if sizes and expected != found:
        raise ValueError(
            f"expected the sizes of an RT-1 with an EfficientNet on the card of {path}, found "
            f"{sorted(found - expected)} and no {sorted(expected - found)}; an earlier version "
            "wrote it: train it again with `v2w train-policy`"
        )
    cfg = config_on_card(path, card, "network", RT1Config)
    with as_on_card(path):
        check_sizes(cfg)
    return cfg
