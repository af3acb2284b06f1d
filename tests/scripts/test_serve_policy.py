"""`v2w serve-policy`: a real process that is called, killed, stopped and interrupted."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from v2w_gym.configs.policies import RemoteConfig
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.policies.conformance import roll
from v2w_gym.policies.remote.client import connect
from v2w_gym.policies.scripted import random_policy
from v2w_gym.scripts import cli

ROOT = Path(__file__).parents[2]
FRAMES = np.random.default_rng(0).integers(0, 256, (4, 2, 64, 64, 3), np.uint8)
INSTRUCTIONS = ["close the drawer", "open the drawer"]
BOTH = np.ones(2, bool)


@contextmanager
def started(*words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command; yields the process and the URL that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-m", "v2w_gym.scripts.cli", "serve-policy", *words, "port=0"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.endswith("; Ctrl-C ends it\n"), process.communicate()
        yield process, line.partition(" at ")[2].partition(";")[0]
    finally:
        process.kill()
        process.communicate()


def test_a_bundled_policy_is_served_until_ctrl_c() -> None:
    with started("random") as (process, url):
        policy = connect(url)
        assert (policy.meta.name, policy.meta.layout) == ("random", "fractal13")
        expected = roll(random_policy(STANDIN_SAWYER), FRAMES, INSTRUCTIONS)
        assert (roll(policy, FRAMES, INSTRUCTIONS) == expected).all()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=10)
        assert (process.returncode, out) == (0, "ended\n")
        with pytest.raises(ConnectionError, match=r"found that it had gone .*1001"):
            policy.act(FRAMES[0], BOTH)


def test_a_server_that_is_killed_within_an_episode_is_named() -> None:
    with started("random") as (process, url):
        policy = connect(url)
        policy.reset(INSTRUCTIONS, seeds=[0, 1])
        policy.act(FRAMES[0], BOTH)
        process.send_signal(signal.SIGKILL)
        process.wait()
        with pytest.raises(ConnectionError, match=f"server at {url}, found that it had gone"):
            policy.act(FRAMES[1], BOTH)
        with pytest.raises(ConnectionError, match=f"server at {url}, found none .*start it"):
            policy.reset(INSTRUCTIONS, seeds=[0, 1])


@pytest.mark.slow
def test_a_server_that_hangs_is_noticed_even_if_it_does_not_read() -> None:
    with started("random") as (process, url):
        policy = connect(url, RemoteConfig(timeout_s=0.5))
        # the second frame does not fit into the system's buffers
        for size, waited in ((64, "a response"), (4000, "room for a request")):
            policy.reset(INSTRUCTIONS[:1], seeds=[0])
            process.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(OSError, match=f"{waited} from the policy server at {url}"):
                policy.act(np.zeros((1, size, size, 3), np.uint8), BOTH[:1])
            assert time.monotonic() - began < 10
            process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=10)
        assert (process.returncode, out) == (0, "ended\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rt1-convergd"], "did you mean 'rt1-converged'?"),
        (["random", "robot=sawyer"], "expected robot to be one of"),
        (["absent.npz"], "expected a .npz file at absent.npz, found none"),
        (["random", "port=0", "connections=0"], "expected connections >= 1, found 0"),
        (["random", "host=256.0.0.1", "port=0"], "address to listen at, found 256.0.0.1:0"),
    ],
)
def test_what_cannot_be_served_is_one_line(
    capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert cli.main(["serve-policy", *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
