"""Run a TF-Agents SavedModel policy for a parent process: `python worker.py SAVED_MODEL`.

Whichever Python has TensorFlow runs this file; `v2w_gym.policies.tensorflow.client` starts it and
talks to it over stdin and stdout as `framing` says. It remembers nothing between two requests: the
parent holds the state of every episode, so a worker that died is replaced and nothing is lost. It
ends when its stdin does, which is when the parent ends.

The TF1 loader reads graph and weights alone, so TF-Agents and TensorFlow Probability, whose types
a SavedModel of TF-Agents names, need not be installed.
"""

import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from v2w_gym.policies.tensorflow.framing import PROTOCOL, Message, read, write
else:  # a script finds what lies beside it
    from framing import PROTOCOL, Message, read, write

GIVEN: Mapping[str, str] = {"observation/": "0/observation/", "state/": "1/"}
"""How names in a request begin, and the same names in the signature of a TF-Agents policy."""

CONSTANTS: Mapping[str, float] = {"0/step_type": 1, "0/discount": 1}
"""What is not zero. step_type is MID in every step: FIRST would silently reset the state."""

DESCRIPTIONS = ("get_train_step", "get_metadata")


class Policy:
    """The graph of a SavedModel with its weights."""

    def __init__(self, tf: Any, path: str) -> None:
        """Load the SavedModel at `path`."""
        self._tf = tf
        config = tf.compat.v1.ConfigProto(device_count={"GPU": 0})
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        with self._session.graph.as_default():
            loaded = tf.compat.v1.saved_model.load(self._session, ["serve"], path)
        self._signatures = loaded.signature_def
        if "action" not in self._signatures:
            found = sorted(self._signatures)
            raise ValueError(f"expected a policy with a signature 'action', found {found}")
        self._inputs = self._signatures["action"].inputs
        self._state = {name for name in self._inputs if name.startswith(GIVEN["state/"])}

    def describe(self) -> Message:
        """Return [type, shape] of what goes in and comes out, and what the model says of itself."""
        outputs = self._signatures["action"].outputs
        says = {
            key: {name: str(value) for name, value in self._run(key, {}).items()}
            for key in DESCRIPTIONS
            if key in self._signatures
        }
        return Message(
            {
                "inputs": {name: self._kind(info) for name, info in self._inputs.items()},
                "outputs": {name: self._kind(info) for name, info in outputs.items()},
                "says": says,
            }
        )

    def initial_state(self) -> Message:
        """Return the `state/...` of a new episode; a model without state has none."""
        if not self._state:
            return Message({})
        key = "get_initial_state"
        batch_size = dict.fromkeys(self._signatures[key].inputs, np.int32(1))
        return Message({}, {f"state/{k}": v for k, v in self._run(key, batch_size).items()})

    def act(self, given: Mapping[str, NDArray[Any]]) -> Message:
        """Return `action/...` and the new `state/...` for `observation/...` and `state/...`.

        Observations that are not given are zeros: RT-1 looks at image and instruction only.
        """
        feed = {_replaced(name): value for name, value in given.items()}
        unknown, missing = sorted(set(feed) - set(self._inputs)), sorted(self._state - set(feed))
        if unknown or missing:
            raise ValueError(
                f"expected inputs of the model, {sorted(self._inputs)}, with its whole state; "
                f"found {unknown} beside them, without {missing}"
            )
        return Message({}, self._run("action", feed))

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

    def _kind(self, info: Any) -> tuple[str, list[int]]:
        """Return the type's name and the shape, -1 where any size will do."""
        return self._tf.dtypes.as_dtype(info.dtype).name, [d.size for d in info.tensor_shape.dim]


def _replaced(name: str) -> str:
    for given, own in GIVEN.items():
        if name.startswith(given):
            return own + name.removeprefix(given)
    return name


def answer(policy: Policy, request: Message) -> Message:
    """Return the answer to a request, or the error that it met."""
    try:
        kind = request.info["kind"]
        if kind == "act":
            return policy.act(request.arrays)
        return {"describe": policy.describe, "initial_state": policy.initial_state}[kind]()
    except Exception as error:  # noqa: BLE001  # whatever it is, the parent must hear of it
        return failure(error)


def failure(error: Exception) -> Message:
    """Return the message that stands for an error; its traceback goes to stderr."""
    traceback.print_exception(error)
    told = str(error).strip().splitlines() or [""]
    return Message({"error": f"{type(error).__name__}: {told[0]}"})


def serve(path: str, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
    """Load the SavedModel at `path`, say so, and answer requests until there are none."""
    try:
        tf = importlib.import_module("tensorflow")
        policy = Policy(tf, path)
    except Exception as error:  # noqa: BLE001  # whatever it is, the parent must hear of it
        write(outgoing, failure(error))
        return
    write(outgoing, Message({"protocol": PROTOCOL, "tensorflow": tf.__version__}))
    while True:
        write(outgoing, answer(policy, read(incoming)))


def main() -> None:
    """Serve on stdin and stdout; what libraries print on stdout goes to stderr."""
    outgoing = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with suppress(EOFError, BrokenPipeError):  # the parent has ended
        serve(sys.argv[1], sys.stdin.buffer, outgoing)


if __name__ == "__main__":
    main()
