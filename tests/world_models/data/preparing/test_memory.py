"""Memory: a set larger than a limit is prepared and read within it."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from tests.world_models.data.recorded import InMemory, make_episode
from v2w_gym.configs.data import PrepareConfig
from v2w_gym.configs.robots import GOOGLE_ROBOT
from v2w_gym.world_models.data.decoding.encoded import decode_picture
from v2w_gym.world_models.data.preparing.episodes import to_png
from v2w_gym.world_models.data.preparing.prepare import prepare_source

rng = np.random.default_rng(0)
NOISE = [to_png(rng.integers(0, 256, (256, 320, 3), np.uint8)) for _ in range(2)]
LENGTH = 50

class Pictures:
    def __len__(self):
        return LENGTH
    def __getitem__(self, steps):
        return np.stack([decode_picture(self.encoded(t)) for t in range(LENGTH)[steps]])
    def encoded(self, step):
        return NOISE[step % 2]

class Lazy(InMemory):
    def read(self, start=0, stop=None):
        for number in range(len(self))[start:stop]:
            yield make_episode(number, LENGTH, GOOGLE_ROBOT, frames=Pictures())

cfg = PrepareConfig(source=".", output=sys.argv[1], robot="google_robot", workers=1)
data = prepare_source(Lazy(range(int(sys.argv[2]))), cfg)
for _ in range(200):
    episode = int(rng.integers(len(data)))
    start = int(rng.integers(LENGTH - 16))
    assert data.frames(episode, start, start + 16).shape == (16, 256, 320, 3)
size = sum(stored["bytes"] for stored in data.card["files"].values())
# Not ru_maxrss, which begins with the peak of the process that started this one.
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(size, int(status["VmHWM"].split()[0]) * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_two_gigabytes_are_prepared_and_read_within_300_megabytes(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), "160"]
    size, peak = map(int, subprocess.check_output(command, text=True).split())
    assert size > 1.9e9
    assert peak < 300e6
