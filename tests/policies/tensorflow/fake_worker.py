"""A worker without TensorFlow that misbehaves on request: `python fake_worker.py FOLDER`.

FOLDER/plan.json holds a list per process, what it does in each of its turns, the greeting first:
"die", "half" (dies within the answer), "hang", "deaf" (does not even read), "garbage", "refuse",
"old" (of another version); anything else is "ok". The model is a formula of all it is given.
"""

import itertools
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3] / "policies" / "tensorflow"))

from framing import PROTOCOL, Message, read, write

SIZE = [160, 160, 3]  # more bytes than a pipe holds
STATE = {"image": ("uint8", [-1, 2, *SIZE]), "step_num": ("int32", [-1, 1])}
FIELDS = {
    "base_displacement_vector": 2,
    "base_displacement_vertical_rotation": 1,
    "gripper_closedness_action": 1,
    "rotation_delta": 3,
    "terminate_episode": 3,
    "world_vector": 3,
}
DESCRIPTION = {
    "inputs": {
        "0/observation/image": ("uint8", [-1, *SIZE]),
        "0/observation/natural_language_embedding": ("float32", [-1, 8]),
        **{f"1/{name}": kind for name, kind in STATE.items()},
    },
    "outputs": {
        **{f"action/{name}": ("float32", [-1, size]) for name, size in FIELDS.items()},
        **{f"state/{name}": kind for name, kind in STATE.items()},
    },
    "says": {},
}


def act(given):
    image, memory = given["observation/image"], given["state/image"]
    told = given["observation/natural_language_embedding"]
    count = given["state/step_num"]
    features = [image.mean() / 8, *memory.mean((0, 2, 3, 4)) / 8, told.sum() * 8, count.sum() / 8]
    values = np.sin(np.outer(np.arange(1, 14), features)).sum(1, dtype=np.float32)
    parts = np.split(values[None], np.cumsum(list(FIELDS.values()))[:-1], axis=1)
    actions = {f"action/{name}": part for name, part in zip(FIELDS, parts, strict=True)}
    memory = np.concatenate([memory[:, 1:], image[:, None]], 1)
    return {**actions, "state/image": memory, "state/step_num": count + 1}


def answer(request):
    kind = request.info["kind"]
    if kind == "describe":
        return Message(DESCRIPTION)
    if kind == "initial_state":
        empty = {k: np.zeros([1, *shape[1:]], dtype) for k, (dtype, shape) in STATE.items()}
        return Message({}, {f"state/{name}": value for name, value in empty.items()})
    return Message({}, act(request.arrays))


def misbehave(what, outgoing):
    if what == "garbage":
        outgoing.write(b"a library says hello\n" * 1000)
    if what == "half":
        outgoing.write(b"v2w\x01\x10")
    outgoing.flush()
    if what in ("die", "half"):
        print(f"about to {what}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        time.sleep(600)


def main(folder):
    with (folder / "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    number = len((folder / "starts").read_text().splitlines())
    plan = [*json.loads((folder / "plan.json").read_text()), *[[]] * number][number - 1]
    outgoing = sys.stdout.buffer
    for turn in itertools.count():
        what = plan[turn] if turn < len(plan) else "ok"
        if what == "deaf":
            time.sleep(600)
        protocol = PROTOCOL - 1 if what == "old" else PROTOCOL
        message = answer(read(sys.stdin.buffer)) if turn else Message({"protocol": protocol})
        misbehave(what, outgoing)
        if what == "refuse":
            message = Message({"error": "KeyError: 'nothing of the kind'"})
        write(outgoing, message)


if __name__ == "__main__":
    with suppress(EOFError):
        main(Path(sys.argv[1]))
