"""A server that dies, hangs or sends garbage costs time, and nothing else."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from tests.policies.remote.fake_server import Fake
from v2w_gym.policies.conformance import PolicyConformance, roll
from v2w_gym.policies.remote import server_process
from v2w_gym.policies.remote.client import RemotePolicy
from v2w_gym.policies.remote.server_process import module_command
from v2w_gym.policies.remote.started import RESTARTS, StartedPolicy

FAKE = Path(__file__).with_name("fake_server.py")
SETTINGS = {"text": "hello", "numbers": np.array([1, 2])}
INSTRUCTIONS = ("close the drawer", "open it")
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 2, 8, 8, 3), np.uint8)
ALL = np.ones(2, bool)
START = Callable[..., StartedPolicy]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[START]:
    """Start a policy whose servers do what the given plans say, the start first."""
    policies = []

    def start_policy(
        *plans: list[str], timeout_s: float = 30.0, python: str = sys.executable
    ) -> StartedPolicy:
        (tmp_path / "plan.json").write_text(json.dumps(plans))
        command = [python, str(FAKE), str(tmp_path)]
        policies.append(StartedPolicy(command, SETTINGS, "fake", timeout_s, str.lower))
        return policies[-1]

    yield start_policy
    for policy in policies:
        policy.close()


def processes(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "starts").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # one that has ended but whose parent does not ask


class TestConformance(PolicyConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def kept(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartedPolicy]:
        folder = tmp_path_factory.mktemp("fake")
        (folder / "plan.json").write_text("[]")
        command = [sys.executable, str(FAKE), str(folder)]
        with closing(StartedPolicy(command, SETTINGS, "fake", 30.0)) as policy:
            yield policy

    @pytest.fixture
    def policy(self, kept: StartedPolicy, monkeypatch: pytest.MonkeyPatch) -> StartedPolicy:
        monkeypatch.setattr(kept, "close", lambda: None)
        return kept


def test_a_server_is_started_and_says_what_it_serves(start: START, tmp_path: Path) -> None:
    policy = start()
    assert policy.meta.name == "fake" and policy.metadata["says"] == "hello"
    assert (roll(policy, FRAMES, INSTRUCTIONS) == roll(Fake(), FRAMES, INSTRUCTIONS)).all()
    policy.reset(["CLOSE the drawer"], seeds=[0])  # lower case reaches the server
    assert policy.losses == 0 and len(processes(tmp_path)) == 1
    policy.close()
    policy.close()
    assert not is_running(*processes(tmp_path))


@pytest.mark.parametrize("what", ["die", "hang"])
def test_a_lost_server_is_replaced_and_actions_do_not_change(
    start: START, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """Slot 1 began anew in step 2; in step 3 a server is lost, and the next one in the replay."""
    plain, policy = Fake(), start(["ok"] * 7 + [what], ["ok", "ok", "die"], timeout_s=2.0)
    found, expected, events = [], [], []
    for own, actions in ((policy, found), (plain, expected)):
        own.reset(INSTRUCTIONS, seeds=[3, 4])
        for step, frames in enumerate(FRAMES):
            if step == 2:
                own.reset(INSTRUCTIONS[::-1], seeds=[5, 6], slots=[1])
            answer = own.act(frames, ALL)
            actions.append(answer.actions)
            events.append(answer.events)
    assert (np.array(found) == np.array(expected)).all()
    assert events[3] == ((0, "server restarted"), (1, "server restarted")) * 2
    assert sum(map(len, events)) == 4 and policy.losses == 2
    assert ("no response in 2 s" in caplog.messages[0]) == (what == "hang")
    assert [is_running(pid) for pid in processes(tmp_path)] == [False, False, True]


def test_a_process_killed_between_two_requests_is_replaced(start: START, tmp_path: Path) -> None:
    policy = start()
    policy.reset(INSTRUCTIONS, seeds=[0, 1])
    os.kill(processes(tmp_path)[0], 9)
    policy.act(FRAMES[0], ALL)
    assert policy.losses == 1


def test_a_request_that_no_server_survives_is_given_up(
    start: START, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = start(["ok", "die"], ["die"], ["ok", "die"])
    policy.reset(INSTRUCTIONS[:1], seeds=[0])
    with pytest.raises(
        ConnectionError, match="lost the server .*status -9; it last wrote: .*about to die"
    ):
        policy.act(FRAMES[0, :1], ALL[:1])
    assert len(processes(tmp_path)) == RESTARTS + 1
    assert not any(is_running(pid) for pid in processes(tmp_path))
    assert "lost the server of policy 'fake'" in caplog.messages[0]
    assert "to start, found that it ended with exit status -9" in caplog.messages[1]
    assert np.isfinite(roll(policy, FRAMES, INSTRUCTIONS)).all()


def test_what_the_server_refuses_is_not_requested_again(start: START, tmp_path: Path) -> None:
    policy = start(["ok", "refuse"])
    policy.reset(INSTRUCTIONS, seeds=[0, 1])
    with pytest.raises(ValueError, match="reports: KeyError: 'nothing of the kind'"):
        policy.act(FRAMES[0], ALL)
    assert (roll(policy, FRAMES, INSTRUCTIONS) == roll(Fake(), FRAMES, INSTRUCTIONS)).all()
    assert policy.losses == 0 and len(processes(tmp_path)) == 1


@pytest.mark.parametrize(
    ("plan", "kind", "error"),
    [
        ("refuse", ValueError, "cannot serve policy 'fake': KeyError: 'nothing of the kind'"),
        ("die", ConnectionError, "exit status -9; it last wrote: about to die"),
        ("garbage", ConnectionError, "exit status 3; it last wrote: nothing"),
    ],
)
def test_a_server_that_does_not_start_leaves_no_process(
    start: START, tmp_path: Path, plan: str, kind: type[Exception], error: str
) -> None:
    with pytest.raises(kind, match=error):
        start([plan])
    assert not is_running(*processes(tmp_path))


def test_an_interrupted_request_does_not_answer_the_next_one(
    start: START, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = start()
    policy.reset(INSTRUCTIONS, seeds=[0, 1])

    def interrupted(remote: object, frames: object, active: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RemotePolicy, "act", interrupted)
        with pytest.raises(KeyboardInterrupt):
            policy.act(FRAMES[0], ALL)
    assert (roll(policy, FRAMES, INSTRUCTIONS) == roll(Fake(), FRAMES, INSTRUCTIONS)).all()


def test_a_wrapper_script_and_what_it_started_are_stopped(
    start: START, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_process, "END_SECONDS", 0.5)
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\n{sys.executable} "$@"\nexit $?\n')
    wrapper.chmod(0o755)
    policy = start(["ok", "hang"], timeout_s=1.0, python=str(wrapper))
    policy.reset(INSTRUCTIONS[:1], seeds=[0])
    policy.act(FRAMES[0, :1], ALL[:1])
    policy.close()
    assert policy.losses == 1
    assert not any(is_running(pid) for pid in processes(tmp_path))


def test_a_server_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("[]")
    script = (
        "import os, sys, numpy as np;"
        "from v2w_gym.policies.remote.started import StartedPolicy;"
        f"command = [sys.executable, {str(FAKE)!r}, {str(tmp_path)!r}];"
        "settings = {'text': '', 'numbers': np.array([1, 2])};"
        "policy = StartedPolicy(command, settings, 'fake', 30);"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=FAKE.parents[3], check=False)
    (pid,) = processes(tmp_path)
    for _ in range(100):
        if not is_running(pid):
            return
        time.sleep(0.05)
    raise AssertionError(f"expected process {pid} to end with its parent")


def test_another_interpreter_needs_nothing_but_numpy_msgpack_and_websockets() -> None:
    *command, module = module_command(
        sys.executable, "v2w_gym.policies.adapters.saved_model_server"
    )
    code = command[2].replace('run_name="__main__"', 'run_name="imported"')
    others = "torch gymnasium PIL omegaconf pandas tqdm yaml safetensors tensorflow"
    block = f"import sys; sys.modules.update(dict.fromkeys({others.split()}))\n"
    command = [sys.executable, "-c", block + code, command[3], module]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(command, check=True, env=environment)
