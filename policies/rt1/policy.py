"""RT-1 as a policy: a memory of image tokens per slot, and its checkpoints."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from configs.policy import RT1Config
from configs.robots import RobotSpec
from policies.base import PolicyMeta
from policies.checks import check_frames, check_reset
from policies.instructions import InstructionTable
from policies.rt1.network import RT1Network
from policies.rt1.tokenizer import ActionTokenizer
from world_models.checkpoint import check_kind, load_checkpoint, save_checkpoint

KIND = "rt1"


class RT1Policy:
    """Acts with the likeliest tokens, as RT-1 does.

    A frame is encoded once; its tokens stay in the slot's memory, the oldest first, for
    `history` steps. Slots are computed one by one: the last bits of a matrix product depend on the
    batch, and a policy must act the same whoever else is in it.
    """

    def __init__(
        self,
        network: RT1Network,
        robot: RobotSpec,
        table: InstructionTable,
        name: str,
        fingerprint: str = "",
    ) -> None:
        """Wrap a trained network."""
        cfg = network.cfg
        self.meta = PolicyMeta(name, robot.name, cfg.image_size, cfg.history, fingerprint)
        self._robot = robot
        self._network = network.eval()
        self._table = table
        self._tokenizer = ActionTokenizer(robot, cfg.bins)
        self._vectors = torch.zeros(0, cfg.instruction_size)
        self._memory: list[list[torch.Tensor]] = []

    def reset(self, instructions: Sequence[str], *, seeds: Sequence[int]) -> None:
        """See `Policy.reset`; the seeds do not matter here."""
        check_reset(instructions, seeds)
        rows = [self._table.row(text) for text in instructions]
        self._vectors = torch.from_numpy(self._table.vectors[rows])
        self._memory = [[] for _ in instructions]

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> NDArray[np.float32]:
        """See `Policy.act`."""
        check_frames(self.meta, len(self._memory), frames, active)
        actions = np.tile(self._robot.make_action(), (len(frames), 1))
        for slot in np.flatnonzero(active):
            actions[slot] = self._act_in(int(slot), frames[slot])
        return actions

    @torch.no_grad()
    def _act_in(self, slot: int, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        vector = self._vectors[slot][None]
        newest = self._network.encode(torch.from_numpy(frame.copy())[None], vector)[0]
        memory = self._memory[slot] = [*self._memory[slot], newest][-self._network.cfg.history :]
        unused = [torch.zeros_like(newest)] * (self._network.cfg.history - len(memory))
        logits = self._network(torch.stack(memory + unused)[None])[0, len(memory) - 1]
        return self._tokenizer.decode(logits.argmax(-1).numpy())


def save_rt1(
    path: Path,
    network: RT1Network,
    robot: RobotSpec,
    table: InstructionTable,
    notes: Mapping[str, Any],
) -> None:
    """Write a checkpoint in half precision; `notes` on its provenance go on the card."""
    weights = {f"network.{name}": value.half() for name, value in network.state_dict().items()}
    card = {
        "kind": KIND,
        "robot": robot.name,
        "network": asdict(network.cfg),
        "instructions": list(table.texts),
        **notes,
    }
    save_checkpoint(path, {**weights, "instructions": torch.from_numpy(table.vectors)}, card)


def load_rt1(path: Path, robot: RobotSpec) -> RT1Policy:
    """Read a checkpoint; the policy is named after the file.

    Raises:
        FileNotFoundError: No checkpoint at `path`.
        ValueError: Not an RT-1 checkpoint, damaged, or one of another robot.
    """
    tensors, card = load_checkpoint(path)
    check_kind(path, card, KIND)
    if card["robot"] != robot.name:
        raise ValueError(
            f"expected a policy for robot {robot.name!r}, found {card['robot']!r} in {path}"
        )
    sizes: dict[str, Any] = {
        name: tuple(size) if isinstance(size, list) else size
        for name, size in card["network"].items()
    }
    cfg = RT1Config(**sizes)
    table = InstructionTable(tuple(card["instructions"]), tensors.pop("instructions").numpy())
    network = RT1Network(cfg, len(ActionTokenizer(robot, cfg.bins)))
    weights = {name.removeprefix("network."): value for name, value in tensors.items()}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(
            f"expected the weights of the network on the card of {path}, found {error}"
        ) from error
    return RT1Policy(network, robot, table, path.stem, card["sha256"])
