"""Environments in worker processes: a fork after PyTorch has used its threads must not hang."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os, sys, warnings
import torch
torch.set_num_threads(4)
images = torch.randn(8, 32, 64, 64)
torch.nn.functional.conv2d(images, torch.randn(32, 32, 3, 3))
torch.nn.functional.pixel_unshuffle(images, 2).contiguous()  # the pool has threads now
warnings.simplefilter("ignore")
import gymnasium as gym
import numpy as np
import v2w_gym

def vector(context):
    envs = gym.make_vec(
        "Vid2World-RT1-v0", num_envs=2, vectorization_mode="async",
        vector_kwargs={"context": context},
    )
    envs.reset_async(seed=3)
    frames, info = envs.reset_wait(timeout=120)
    envs.step_async(np.zeros((2, 13), np.float32))
    after = envs.step_wait(timeout=120)[0]
    envs.close()
    return frames, after

def forked(env):
    child = os.fork()
    if child == 0:
        env.step(np.zeros(13, np.float32))
        os._exit(5)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

if __name__ == "__main__":
    native = gym.make_vec("Vid2World-RT1-v0", num_envs=2)
    first = native.reset(seed=3)[0], native.step(np.zeros((2, 13), np.float32))[0]
    if sys.argv[1] == "raw":
        env = gym.make("Vid2World-RT1-v0")
        env.reset(seed=0)
        assert forked(env) == 5
    else:
        start, after = vector(sys.argv[1])
        np.testing.assert_array_equal(start, first[0])
        assert np.abs(after.astype(int) - first[1]).max() <= 1
    assert torch.get_num_threads() == 4  # only the children are calmed
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork processes")
@pytest.mark.parametrize("how", ["fork", "raw", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_answer(how, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {k: v for k, v in os.environ.items() if not k.endswith("NUM_THREADS")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, program, how], check=True, timeout=300, env=environment)
