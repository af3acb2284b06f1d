"""A published RT-1 or RT-1-X as its authors saved it: a TF-Agents SavedModel in its own process."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.robots import FRACTAL13, RobotSpec
from v2w_gym.policies.base import ActionBatch, PolicyMeta, check_frames, check_reset, renew
from v2w_gym.policies.instructions import InstructionTable
from v2w_gym.policies.rt1.saved_variables import find_index
from v2w_gym.policies.tensorflow.client import Worker, find_python
from v2w_gym.policies.tensorflow.framing import Arrays
from v2w_gym.world_models.downloads import check_not_lfs_pointer

CONTROL_HZ = 3.0
TIMEOUT = 120.0
"""Seconds for one action; RT-1 takes about one on two cores."""
RESTARTED = "worker restarted"

IMAGE, INSTRUCTION = "0/observation/image", "0/observation/natural_language_embedding"
REMEMBERED = ("1/image", "1/context_image_tokens")
"""The memory of frames: raw ones in the published models, tokens in the public code."""

Kinds: TypeAlias = Mapping[str, tuple[str, Sequence[int]]]
"""Type and shape of each input or output; the batch comes first, -1 is any size."""


class SavedModelPolicy:
    """Acts with the SavedModel's own graph, slot by slot, because that takes a batch of one.

    What it remembers of a slot is the graph's state, which is passed back to it as it came.
    Values beyond the robot's bounds, which RT-1-X gives, are left as they are.
    """

    def __init__(
        self,
        worker: Worker,
        robot: RobotSpec,
        table: InstructionTable,
        name: str,
        fingerprint: str = "",
    ) -> None:
        """Ask the worker what its model takes and gives.

        Raises:
            ValueError: A model of another kind, or a table whose vectors do not fit it.
        """
        self.description = worker.request("describe").info
        """Inputs, outputs and what the model says of itself."""
        inputs: Kinds = self.description["inputs"]
        _check_model(inputs, self.description["outputs"])
        _check_fit(inputs, robot, table)
        remembered = [inputs[key][1][1] for key in REMEMBERED if key in inputs]
        height, width = inputs[IMAGE][1][1:3]
        self.meta = PolicyMeta(
            name,
            FRACTAL13.name,
            (height, width),
            CONTROL_HZ,
            history=max(remembered, default=0),
            fingerprint=fingerprint,
        )
        self._worker = worker
        self._robot = robot
        self._table = table
        self._initial: Arrays = worker.request("initial_state").arrays
        self._vectors = table.vectors[:0]
        self._told: list[str] = []
        self._states: list[Arrays] = []

    def reset(
        self,
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        slots: Sequence[int] | None = None,
    ) -> None:
        """See `Policy.reset`; the seeds do not matter here."""
        check_reset(self.meta, instructions, seeds, slots, len(self._states))
        told = renew(self._told, instructions, slots)
        self._vectors = self._table.vectors[[self._table.row(text) for text in told]]
        self._states = renew(self._states, [self._initial] * len(instructions), slots)
        self._told = told

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
        """See `Policy.act`."""
        check_frames(self.meta, len(self._states), frames, active)
        actions = np.tile(self._robot.make_action(), (len(frames), 1, 1))
        losses = np.zeros(len(frames), int)
        for slot in np.flatnonzero(active):
            before = self._worker.losses
            actions[slot] = self._act_in(int(slot), frames[slot])
            losses[slot] = self._worker.losses - before
        events = [(slot, RESTARTED) for slot, lost in enumerate(losses) for _ in range(lost)]
        return ActionBatch(actions, tuple(events))

    def close(self) -> None:
        """See `Policy.close`; ends the worker."""
        self._worker.close()

    def _act_in(self, slot: int, frame: NDArray[np.uint8]) -> NDArray[np.float32]:
        given = {
            "observation/image": frame[None],
            "observation/natural_language_embedding": self._vectors[slot][None],
            **self._states[slot],
        }
        answer = self._worker.request("act", given).arrays
        self._states[slot] = {k: v for k, v in answer.items() if k.startswith("state/")}
        fields = [answer[f"action/{name}"].reshape(size) for name, size in FRACTAL13.fields]
        return np.concatenate(fields, dtype=np.float32)


def load_saved_model(
    path: Path, robot: RobotSpec, table: InstructionTable, python: str | None = None
) -> SavedModelPolicy:
    """Start a worker for the SavedModel in folder `path`; the policy is named after the folder.

    Args:
        path: Folder with `saved_model.pb` and `variables`.
        robot: Whose actions the policy must give.
        table: The instructions it will be told, as vectors of the Universal Sentence Encoder.
        python: Interpreter that has TensorFlow; None for what `find_python` finds.

    Raises:
        FileNotFoundError: Part of the SavedModel is missing.
        ValueError: Part of it is damaged or not downloaded, it is not a policy of this kind, or
            no interpreter has TensorFlow.
        OSError: The worker cannot be started.
    """
    fingerprint = fingerprint_of(path)
    worker = Worker(find_python(python), path, TIMEOUT)
    try:
        return SavedModelPolicy(worker, robot, table, path.name, fingerprint)
    except BaseException:
        worker.close()
        raise


def fingerprint_of(path: Path) -> str:
    """Return the sha256 of a SavedModel's graph and index; the index holds all weights' checksums.

    Raises:
        FileNotFoundError: Part of the SavedModel is missing.
        ValueError: Part of it is damaged or not downloaded.
    """
    graph = path / "saved_model.pb"
    if not graph.is_file():
        raise FileNotFoundError(
            f"expected the folder of a SavedModel, with saved_model.pb and variables, found no "
            f"{graph}; unpack the archive, or name the folder in which saved_model.pb lies"
        )
    index = find_index(path)
    for file in (graph, index):
        check_not_lfs_pointer(file)
    return hashlib.sha256(index.read_bytes() + graph.read_bytes()).hexdigest()


def _check_model(inputs: Kinds, outputs: Kinds) -> None:
    """Check that a model sees what RT-1 sees, gives its actions, and returns the state it takes."""
    for name, dtype, rank in ((IMAGE, "uint8", 4), (INSTRUCTION, "float32", 2)):
        found, shape = inputs.get(name, ("none", ()))
        if found != dtype or len(shape) != rank or min(shape[1:]) < 1:
            raise ValueError(
                f"expected a policy with input {name} ({dtype}, {rank} dimensions), found {found} "
                f"{list(shape)}; its inputs are {sorted(inputs)}"
            )
    actions = {k: list(shape[1:]) for k, (_, shape) in outputs.items() if k.startswith("action/")}
    expected = {f"action/{name}": [size] for name, size in FRACTAL13.fields}
    vague = {name: size for name, size in expected.items() if actions.get(name) in ([], [-1])}
    if {**actions, **vague} != expected:
        raise ValueError(f"expected a policy with outputs {expected}, found {actions}")
    taken = {name.removeprefix("1/") for name in inputs if name.startswith("1/")}
    given = {name.removeprefix("state/") for name in outputs if name.startswith("state/")}
    if taken != given:
        raise ValueError(
            f"expected a policy that returns its state {sorted(taken)}, found {sorted(given)}"
        )


def _check_fit(inputs: Kinds, robot: RobotSpec, table: InstructionTable) -> None:
    if robot.action_layout.name != FRACTAL13.name:
        raise ValueError(
            f"expected a robot with actions {FRACTAL13.name!r}, found {robot.name!r} with "
            f"{robot.action_layout.name!r}"
        )
    size = inputs[INSTRUCTION][1][1]
    if table.vectors.shape[1] != size:
        raise ValueError(
            f"expected instructions as vectors of {size} values, found {table.vectors.shape[1]}; "
            "make a table of the Universal Sentence Encoder's with `v2w embed`"
        )
