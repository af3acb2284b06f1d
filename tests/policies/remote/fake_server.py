"""A served policy that misbehaves on request: `python fake_server.py FOLDER`.

FOLDER/plan.json holds a list per process, what it does in each of its turns, the start first:
"die", "hang", "garbage" (instead of a URL), "refuse"; anything else is "ok". An action is a formula
of all instructions and frames of the episode.
"""

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[3]))

from v2w_gym.policies.base import ActionBatch, PolicyMeta, check_frames, check_reset, renew
from v2w_gym.policies.remote.serve_parent import serve_parent
from v2w_gym.policies.remote.server import PolicyServer

META = PolicyMeta("fake", "oxe7", (8, 8), 3.0, history=100)


class Fake:
    meta = META

    def __init__(self, plan=None):
        self.state, self.plan = [], plan or itertools.repeat("ok")

    def reset(self, instructions, *, seeds, slots=None):
        check_reset(META, instructions, seeds, slots, len(self.state))
        new = [len(text) + seed / 7 for text, seed in zip(instructions, seeds, strict=True)]
        self.state = renew(self.state, new, slots)

    def act(self, frames, active):
        check_frames(META, len(self.state), frames, active)
        misbehave(next(self.plan))
        for slot in np.flatnonzero(active):
            self.state[slot] = 0.9 * self.state[slot] + frames[slot].mean() / 8
        actions = np.sin(np.outer(self.state, np.arange(1, 8)))
        return ActionBatch(actions[:, None].astype(np.float32))

    def close(self):
        pass


def misbehave(what):
    if what == "die":
        print(f"about to {what}", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang":
        time.sleep(600)
    if what == "refuse":
        raise KeyError("nothing of the kind")


def build(settings):
    assert settings["numbers"].tolist() == [1, 2]
    misbehave(START)
    print("a library says hello", flush=True)
    server = PolicyServer(lambda: Fake(PLAN), port=0)
    server.metadata["says"] = settings["text"]
    return server


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with (folder / "starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    number = len((folder / "starts").read_text().splitlines())
    planned = [*json.loads((folder / "plan.json").read_text()), *[[]] * number][number - 1]
    PLAN = itertools.chain(planned, itertools.repeat("ok"))
    START = next(PLAN)
    if START == "garbage":
        print("5", flush=True)
        sys.exit(3)
    serve_parent(build)
