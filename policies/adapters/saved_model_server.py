"""Serve a TF-Agents SavedModel, such as a published RT-1 or RT-1-X, in a Python with TensorFlow.

`saved_model.py` starts this file. The interpreter needs TensorFlow, msgpack and websockets. The
loader of TensorFlow 1 reads only graph and weights, so it needs neither TF-Agents nor TensorFlow
Probability, although the SavedModel names their types.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.robots import FRACTAL13
from v2w_gym.policies.base import ActionBatch, PolicyMeta, check_frames, check_reset, renew
from v2w_gym.policies.remote.serve_parent import serve_parent
from v2w_gym.policies.remote.server import MOST_CONNECTIONS, PolicyServer
from v2w_gym.world_models.data.tensorflow import import_tensorflow

CONTROL_HZ = 3.0

IMAGE, INSTRUCTION = "0/observation/image", "0/observation/natural_language_embedding"
STATE, NEXT_STATE, ACTION = "1/", "state/", "action/"
"""Names and prefixes of inputs and outputs in the signature of a TF-Agents policy."""
FRAME_HISTORIES = ("1/image", "1/context_image_tokens")
"""The frame history: raw frames in the published models, tokens in the public code."""

CONSTANTS: Mapping[str, float] = {"0/step_type": 1, "0/discount": 1}
"""Inputs other than zero. step_type is always MID, because FIRST would silently reset the state."""
DESCRIPTIONS = ("get_train_step", "get_metadata")

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
Kind: TypeAlias = tuple[str, Sequence[int]]
"""Type and shape of an input or output; the batch comes first, -1 is any size."""


class Graph:
    """The graph of a SavedModel with its weights.

    Attributes:
        inputs: Inputs of the signature "action", by name.
        outputs: Outputs of the signature "action", by name.
    """

    def __init__(self, path: str) -> None:
        """Load the SavedModel in a folder.

        Raises:
            ValueError: The SavedModel is no policy.
        """
        self._tf = tf = import_tensorflow(onednn=True)
        config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        with self._session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], path)
        self._signatures = loaded.signature_def
        if "action" not in self._signatures:
            found = sorted(self._signatures)
            raise ValueError(f"expected a policy with a signature 'action', found {found}")
        action = self._signatures["action"]
        self.inputs = {name: self._kind(info) for name, info in action.inputs.items()}
        self.outputs = {name: self._kind(info) for name, info in action.outputs.items()}

    def describe(self) -> dict[str, dict[str, str]]:
        """Return the model's own metadata, such as its training step."""
        return {
            key: {name: str(value) for name, value in self._run(key, {}).items()}
            for key in DESCRIPTIONS
            if key in self._signatures
        }

    def initial_state(self) -> Arrays:
        """Return the state of a new episode, by name; empty for a model without state."""
        if not any(name.startswith(STATE) for name in self.inputs):
            return {}
        key = "get_initial_state"
        batch_size = dict.fromkeys(self._signatures[key].inputs, np.int32(1))
        return {f"{STATE}{name}": value for name, value in self._run(key, batch_size).items()}

    def act(self, given: Arrays) -> tuple[Arrays, Arrays]:
        """Return the action's fields by name, and the new state.

        Missing observations are zeros, because RT-1 uses only the image and the instruction.
        """
        found = self._run("action", given)
        action = {k.removeprefix(ACTION): v for k, v in found.items() if k.startswith(ACTION)}
        state = {
            f"{STATE}{name.removeprefix(NEXT_STATE)}": value
            for name, value in found.items()
            if name.startswith(NEXT_STATE)
        }
        return action, state

    def _run(self, key: str, given: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        signature = self._signatures[key]
        feed = {
            info.name: given[name] if name in given else self._filler(name, info)
            for name, info in signature.inputs.items()
        }
        fetch = {name: info.name for name, info in signature.outputs.items()}
        return self._session.run(fetch, feed)

    def _filler(self, name: str, info: Any) -> NDArray[Any]:
        dtype, shape = self._kind(info)
        filled = [max(size, 1) for size in shape]
        if dtype == "string":
            return np.full(filled, b"", object)
        return np.full(filled, CONSTANTS.get(name, 0), dtype)

    def _kind(self, info: Any) -> Kind:
        return self._tf.dtypes.as_dtype(info.dtype).name, [d.size for d in info.tensor_shape.dim]


class SavedModelPolicy:
    """Runs the SavedModel's own graph slot by slot, because it takes a batch of one.

    The history of a slot is the graph's state, which goes back into the graph unchanged. Actions
    are not clipped; RT-1-X returns some beyond the robot's bounds.
    """

    def __init__(
        self, graph: Graph, vectors: Mapping[str, NDArray[np.float32]], meta: PolicyMeta
    ) -> None:
        """Wrap a graph that passes `check_model`, with the embedding of every instruction."""
        self.meta = meta
        self._graph = graph
        self._vectors = vectors
        self._initial = graph.initial_state()
        self._instructions: list[str] = []
        self._states: list[Arrays] = []

    def reset(
        self,
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        slots: Sequence[int] | None = None,
    ) -> None:
        """See `Policy.reset`; the seeds are ignored."""
        check_reset(self.meta, instructions, seeds, slots, len(self._states))
        self._instructions = renew(self._instructions, instructions, slots)
        self._states = renew(self._states, [self._initial] * len(instructions), slots)

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
        """See `Policy.act`."""
        check_frames(self.meta, len(self._states), frames, active)
        actions = np.zeros((len(frames), 1, FRACTAL13.size), np.float32)
        for slot in np.flatnonzero(active):
            observed = {
                IMAGE: frames[slot][None],
                INSTRUCTION: self._vectors[self._instructions[slot]][None],
            }
            action, self._states[slot] = self._graph.act({**observed, **self._states[slot]})
            fields = [action[name].reshape(size) for name, size in FRACTAL13.fields]
            actions[slot] = np.concatenate(fields, dtype=np.float32)
        return ActionBatch(actions)

    def close(self) -> None:
        """See `Policy.close`."""


def build(settings: Mapping[str, Any]) -> PolicyServer:
    """Return a server of the policy in the settings of `load_saved_model`.

    Raises:
        ValueError: The model is of another kind, or the vectors do not fit it.
    """
    graph = Graph(settings["path"])
    check_model(graph)
    vectors = settings["vectors"]
    if vectors.shape[1] != (size := graph.inputs[INSTRUCTION][1][1]):
        raise ValueError(
            f"expected instructions as vectors of {size} values, found {vectors.shape[1]}; make a "
            "table with the Universal Sentence Encoder and `v2w embed`"
        )
    known = dict(zip(settings["texts"], vectors, strict=True))
    name, fingerprint = settings["name"], settings["fingerprint"]
    server = PolicyServer(
        lambda: policy_of(graph, known, name, fingerprint), port=0, connections=MOST_CONNECTIONS
    )
    server.metadata["says"] = graph.describe()
    return server


def policy_of(
    graph: Graph, vectors: Mapping[str, NDArray[np.float32]], name: str, fingerprint: str
) -> SavedModelPolicy:
    """Return a policy with its own state that runs a shared graph."""
    height, width = graph.inputs[IMAGE][1][1:3]
    histories = [graph.inputs[key][1][1] for key in FRAME_HISTORIES if key in graph.inputs]
    meta = PolicyMeta(
        name,
        FRACTAL13.name,
        (height, width),
        CONTROL_HZ,
        history=max(histories, default=0),
        fingerprint=fingerprint,
    )
    return SavedModelPolicy(graph, vectors, meta)


def check_model(graph: Graph) -> None:
    """Check that a model has RT-1's inputs and outputs, and returns the state that it takes.

    Raises:
        ValueError: An input, an output or the state differs.
    """
    for name, dtype, rank in ((IMAGE, "uint8", 4), (INSTRUCTION, "float32", 2)):
        found, shape = graph.inputs.get(name, ("none", ()))
        if found != dtype or len(shape) != rank or min(shape[1:]) < 1:
            raise ValueError(
                f"expected a policy with input {name} ({dtype}, {rank} dimensions), found {found} "
                f"{list(shape)}; its inputs are {sorted(graph.inputs)}"
            )
    actions = {
        k: list(shape[1:]) for k, (_, shape) in graph.outputs.items() if k.startswith(ACTION)
    }
    expected = {f"{ACTION}{name}": [size] for name, size in FRACTAL13.fields}
    vague = {name: size for name, size in expected.items() if actions.get(name) in ([], [-1])}
    if {**actions, **vague} != expected:
        raise ValueError(f"expected a policy with outputs {expected}, found {actions}")
    taken = {name.removeprefix(STATE) for name in graph.inputs if name.startswith(STATE)}
    given = {name.removeprefix(NEXT_STATE) for name in graph.outputs if name.startswith(NEXT_STATE)}
    if taken != given:
        raise ValueError(
            f"expected a policy that returns its state {sorted(taken)}, found {sorted(given)}"
        )


if __name__ == "__main__":
    serve_parent(build)
