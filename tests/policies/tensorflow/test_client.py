"""A worker that dies, hangs or talks nonsense costs time, and nothing else."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from v2w_gym.policies.tensorflow import client
from v2w_gym.policies.tensorflow.client import RESTARTS, Worker, find_python

FAKE = Path(__file__).with_name("fake_worker.py")
START = Callable[..., Worker]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "END_SECONDS", 0.5)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[START]:
    """Start a worker whose processes do what the given plans say."""
    workers = []

    def start_worker(*plans: list[str], timeout: float = 30.0) -> Worker:
        (tmp_path / "plan.json").write_text(json.dumps(plans))
        workers.append(Worker(sys.executable, tmp_path, timeout, FAKE))
        return workers[-1]

    yield start_worker
    for worker in workers:
        worker.close()


def processes(folder: Path) -> list[int]:
    return [int(line) for line in (folder / "starts").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"  # one that has ended but whose parent does not ask


def roll(worker: Worker) -> list[list[float]]:
    """Return four actions when each request carries the state that the answer before gave."""
    state, actions = worker.request("initial_state").arrays, []
    for step in range(4):
        given = {
            "observation/image": np.full((1, 160, 160, 3), 50 * step, np.uint8),
            "observation/natural_language_embedding": np.ones((1, 8), np.float32),
        }
        answer = worker.request("act", {**given, **state}).arrays
        state = {name: value for name, value in answer.items() if name.startswith("state/")}
        actions.append(answer["action/world_vector"].ravel().tolist())
    return actions


def test_requests_are_answered(start: START, tmp_path: Path) -> None:
    worker = start()
    actions = roll(worker)
    assert len({tuple(action) for action in actions}) == 4
    assert roll(worker) == actions
    assert worker.losses == 0 and len(processes(tmp_path)) == 1


@pytest.mark.parametrize("what", ["die", "half", "garbage", "hang", "deaf"])
def test_a_lost_worker_is_replaced_and_nothing_else_is(
    start: START, tmp_path: Path, what: str
) -> None:
    expected = roll(start())
    (tmp_path / "starts").unlink()
    worker = start(["ok", "ok", "ok", "ok", what], timeout=1.0)
    assert roll(worker) == expected
    assert worker.losses == 1
    first, second = processes(tmp_path)
    assert not is_running(first) and is_running(second)


def test_a_process_killed_between_two_requests_is_replaced(start: START, tmp_path: Path) -> None:
    worker = start()
    os.kill(processes(tmp_path)[0], 9)
    assert worker.request("describe").info["says"] == {}
    assert worker.losses == 1


def test_a_request_that_no_worker_survives_is_given_up(start: START, tmp_path: Path) -> None:
    worker = start(["ok", "die"], ["ok", "die"], ["ok", "die"])
    with pytest.raises(ConnectionError, match="exit status -9; it last wrote: about to die"):
        worker.request("describe")
    assert len(processes(tmp_path)) == RESTARTS + 1
    assert not any(is_running(pid) for pid in processes(tmp_path))
    assert worker.request("describe").info["says"] == {}


def test_a_replacement_that_does_not_start_is_a_loss_too(start: START, tmp_path: Path) -> None:
    worker = start(["ok", "die"], ["die"], ["ok"])
    assert worker.request("describe").info["says"] == {}
    assert worker.losses == 2 and len(processes(tmp_path)) == 3


def test_the_reason_of_a_loss_is_told(start: START, caplog: pytest.LogCaptureFixture) -> None:
    worker = start(["ok", "garbage"], ["ok", "hang"], timeout=1.0)
    worker.request("describe")
    assert "wrote something else than an answer" in caplog.messages[0]
    assert "b'a librar'" in caplog.messages[0]
    assert "gave no answer in 1 s" in caplog.messages[1]


def test_what_the_worker_refuses_is_not_asked_again(start: START, tmp_path: Path) -> None:
    worker = start(["ok", "refuse"])
    with pytest.raises(ValueError, match="answered: KeyError: 'nothing of the kind'"):
        worker.request("describe")
    assert worker.request("describe").info["says"] == {}
    assert worker.losses == 0 and len(processes(tmp_path)) == 1


@pytest.mark.parametrize(
    ("plan", "error"),
    [
        ("refuse", (ValueError, "answered: KeyError")),
        ("old", (ValueError, "expected a worker of protocol 1, found {'protocol': 0}")),
        ("die", (ConnectionError, "about to die")),
        ("garbage", (ConnectionError, "something else than an answer")),
    ],
)
def test_a_worker_that_does_not_start_leaves_no_process(
    start: START, tmp_path: Path, plan: str, error: tuple[type[Exception], str]
) -> None:
    with pytest.raises(error[0], match=error[1]):
        start([plan])
    assert [is_running(pid) for pid in processes(tmp_path)] == [False]


def test_an_interrupted_request_does_not_answer_the_next_one(
    start: START, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = start()

    def interrupted(stream: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(client, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            worker.request("initial_state")
    assert worker.request("describe").info["says"] == {}


def test_close_ends_the_process(start: START, tmp_path: Path) -> None:
    worker = start()
    worker.close()
    worker.close()
    assert [is_running(pid) for pid in processes(tmp_path)] == [False]


def test_a_wrapper_script_and_what_it_started_are_stopped(tmp_path: Path) -> None:
    wrapper = tmp_path / "python"
    wrapper.write_text(f'#!/bin/sh\n{sys.executable} "$@"\nexit $?\n')
    wrapper.chmod(0o755)
    (tmp_path / "plan.json").write_text('[["ok", "hang"]]')
    worker = Worker(str(wrapper), tmp_path, 1.0, FAKE)
    assert worker.request("describe").info["says"] == {}
    worker.close()
    assert worker.losses == 1
    assert not any(is_running(pid) for pid in processes(tmp_path))


def test_the_worker_ends_with_its_parent(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text("[]")
    script = (
        "import os, sys; from pathlib import Path;"
        "from v2w_gym.policies.tensorflow.client import Worker;"
        f"worker = Worker(sys.executable, Path({str(tmp_path)!r}), 30, Path({str(FAKE)!r}));"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=FAKE.parents[3], check=False)
    (pid,) = processes(tmp_path)
    for _ in range(100):
        if not is_running(pid):
            return
        time.sleep(0.05)
    raise AssertionError(f"expected process {pid} to end with its parent")


def test_without_tensorflow_the_worker_says_so(tmp_path: Path) -> None:
    script = client.SCRIPT
    blocked = tmp_path / "tensorflow.py"
    blocked.write_text("print('on stdout'); raise ModuleNotFoundError('no tensorflow here')\n")
    runner = tmp_path / "runner.py"
    runner.write_text(
        f"import runpy, sys; sys.path[:0] = [{str(script.parent)!r}, {str(tmp_path)!r}];"
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    with pytest.raises(ValueError, match="answered: ModuleNotFoundError: no tensorflow here"):
        Worker(sys.executable, tmp_path, 30.0, runner)


class TestFindPython:
    @pytest.fixture(autouse=True)
    def nothing_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("V2W_TF_PYTHON", raising=False)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    def test_what_is_given_comes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("V2W_TF_PYTHON", "/bin/sh")
        assert find_python(sys.executable) == sys.executable

    def test_then_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("V2W_TF_PYTHON", "/bin/sh")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        assert find_python(None) == "/bin/sh"

    def test_then_this_interpreter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        assert find_python(None) == sys.executable

    def test_without_any_it_says_how_to_make_one(self) -> None:
        with pytest.raises(ValueError, match="found none; make one with `python3 -m venv tf"):
            find_python(None)

    def test_one_that_is_not_there_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        with pytest.raises(ValueError, match="found /nowhere/python; make one"):
            find_python("/nowhere/python")
