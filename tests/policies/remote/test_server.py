"""Our server: its protocol, what it refuses, and how it ends."""

import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from queue import Queue

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from configs.robots import STANDIN_SAWYER
from policies.base import ActionBatch, PolicyMeta
from policies.checks import check_frames, check_reset
from policies.remote.server import PolicyServer
from policies.remote.wire import pack, unpack
from policies.scripted import random_policy
from tests.servers import serving

ROOT = Path(__file__).parents[3]
FRAME = np.zeros((64, 64, 3), np.uint8)
REQUEST = {"observation/image": FRAME, "prompt": "close the drawer"}


class Witness:
    """Answers with its seed and its step; says what happened to it."""

    def __init__(self, told: list[tuple[str, str, int]]) -> None:
        self.meta = PolicyMeta("witness", "oxe7", (64, 64), 3.0, history=2, fingerprint="abc")
        self.told = told
        self.thread = threading.get_ident()

    def reset(self, instructions: Sequence[str], *, seeds: Sequence[int]) -> None:
        check_reset(self.meta, instructions, seeds)
        self.told.append(("reset", instructions[0], seeds[0]))
        self.seed, self.step = seeds[0], 0
        if instructions[0] == "fail":
            raise RuntimeError("it burns")

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
        check_frames(self.meta, 1, frames, active)
        self.step += 1
        actions = np.full((1, 1, 7), self.seed + 0.5 * self.step, np.float32)
        return ActionBatch(actions, ((0, "something odd"),))

    def close(self) -> None:
        self.told.append(("close", "", 0))


@pytest.fixture
def told() -> list[tuple[str, str, int]]:
    return []


@pytest.fixture
def url(told: list[tuple[str, str, int]]) -> Iterator[str]:
    with serving(lambda: Witness(told), connections=2) as url:
        yield url


def dial(url: str) -> ClientConnection:
    return connect(url, compression=None, max_size=None, proxy=None)


def test_it_says_what_it_serves(url: str) -> None:
    with dial(url) as connection:
        assert unpack(connection.recv(5)) == {
            "name": "witness",
            "layout": "oxe7",
            "image_size": [64, 64],
            "control_hz": 3.0,
            "history": 2,
            "chunk": 1,
            "max_batch": 2,
            "gripper": "",
            "rotation": "",
            "fingerprint": "abc",
            "execution_horizon": 0,
            "ensemble": None,
            "supports_reset": True,
        }


def ask(connection: ClientConnection, request: object) -> dict:
    connection.send(pack(request))
    return unpack(connection.recv(5))


def test_a_reset_begins_an_episode_with_its_seed(
    url: str, told: list[tuple[str, str, int]]
) -> None:
    with dial(url) as connection:
        connection.recv(5)
        reset = {"__reset__": {"instruction": "close the drawer", "seed": 7}}
        assert ask(connection, reset) == {"reset": True}
        first, second = ask(connection, REQUEST), ask(connection, REQUEST)
        assert ask(connection, reset) == {"reset": True}
        again = ask(connection, REQUEST)
    assert first["actions"].dtype == np.float32
    assert first["actions"].tolist() == again["actions"].tolist() == [[7.5] * 7]
    assert second["actions"].tolist() == [[8.0] * 7]
    assert first["events"] == ["something odd"]
    assert first["server_timing"]["infer_ms"] >= 0
    assert told == [("reset", "close the drawer", 7)] * 2


def test_without_a_reset_an_episode_is_an_instruction(
    url: str, told: list[tuple[str, str, int]]
) -> None:
    with dial(url) as connection:
        connection.recv(5)
        prompts = ["close the drawer", "close the drawer", "open the drawer"]
        found = [
            ask(connection, {**REQUEST, "prompt": prompt})["actions"][0, 0] for prompt in prompts
        ]
    assert found == [0.5, 1.0, 0.5]
    assert told == [("reset", "close the drawer", 0), ("reset", "open the drawer", 0)]


def test_the_next_connection_begins_anew_with_a_policy_that_is_free(
    url: str, told: list[tuple[str, str, int]]
) -> None:
    for _ in range(3):
        with dial(url) as connection:
            connection.recv(5)
            assert ask(connection, REQUEST)["actions"][0, 0] == 0.5
    assert told == [("reset", "close the drawer", 0)] * 3  # and nothing was closed


@pytest.mark.parametrize(
    ("message", "reported"),
    [
        (b"\xc1", "ValueError: expected a msgpack message"),
        ("a text", "ValueError: expected a binary message, found text: 'a text'"),
        (pack([1]), "ValueError: expected a request as a dict, found list"),
        (pack({"prompt": "x"}), "expected a frame (H, W, 3) as 'observation/image', found None"),
        (pack({"observation/image": FRAME}), "expected an instruction 'prompt', found ['observ"),
        (pack({**REQUEST, "observation/image": FRAME[:9]}), "expected uint8 frames of shape"),
        (pack({**REQUEST, "observation/image": FRAME / 2}), "expected uint8 frames of shape"),
        (pack({"__reset__": {"instruction": "x"}}), "expected a reset with instruction and seed"),
        (pack({"__reset__": 3}), "expected a reset with instruction and seed, found 3"),
        (pack({**REQUEST, "prompt": "fail"}), "RuntimeError: it burns"),
    ],
)
def test_an_error_is_reported_and_ends_the_connection(
    url: str, told: list[tuple[str, str, int]], message: bytes | str, reported: str
) -> None:
    with dial(url) as connection:
        connection.recv(5)
        connection.send(message)
        traceback = connection.recv(5)
        assert isinstance(traceback, str)
        assert traceback.startswith("Traceback")
        assert reported in traceback.splitlines()[-1]
        with pytest.raises(ConnectionClosed) as ended:
            connection.recv(5)
        assert ended.value.rcvd is not None and ended.value.rcvd.code == 1011
    assert told[-1] == ("close", "", 0)  # it may be in any state
    with dial(url) as connection:  # the next one has a new policy
        connection.recv(5)
        assert ask(connection, REQUEST)["actions"][0, 0] == 0.5


def test_a_connection_too_many_is_refused(url: str) -> None:
    with dial(url), dial(url):
        with pytest.raises(InvalidStatus) as refused:
            dial(url)
        assert refused.value.response.status_code == 503
        assert b"expected at most 2 connections" in (refused.value.response.body or b"")
    with dial(url) as connection:
        assert unpack(connection.recv(5))["name"] == "witness"


def test_health_is_told_over_http(url: str) -> None:
    address = url.replace("ws://", "http://") + "/healthz"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=5) as answer:
        assert (answer.status, answer.read()) == (200, b"OK\n")


def test_large_frames_fit(url: str) -> None:
    with dial(url) as connection:
        connection.recv(5)
        connection.send(pack({**REQUEST, "observation/image": np.zeros((2160, 3840, 3), np.uint8)}))
        answer = connection.recv(10)
    assert "expected uint8 frames of shape (1, 64, 64, 3)" in answer  # it arrived


def test_stopping_ends_connections_and_closes_policies(told: list[tuple[str, str, int]]) -> None:
    with ExitStack() as stack:
        with serving(lambda: Witness(told)) as url:
            connection = stack.enter_context(dial(url))
            connection.recv(5)
        with pytest.raises(ConnectionClosed) as ended:
            connection.recv(5)
    assert ended.value.rcvd is not None and ended.value.rcvd.code == 1001
    assert told == [("close", "", 0)]


def test_one_thread_asks_all_policies() -> None:
    threads = set()

    class Watched(Witness):
        def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
            threads.add(threading.get_ident())
            return super().act(frames, active)

    with serving(lambda: Watched([])) as url, ExitStack() as stack:
        connections = [stack.enter_context(dial(url)) for _ in range(4)]
        for connection in connections:
            connection.send(pack(REQUEST))
        for connection in connections:
            connection.recv(5)
            assert unpack(connection.recv(5))["actions"].shape == (1, 7)
    assert len(threads) == 1


def test_a_port_that_is_taken_is_an_error(url: str) -> None:
    port = int(url.rpartition(":")[2])
    server = PolicyServer(lambda: random_policy(STANDIN_SAWYER), port=port)
    with pytest.raises(OSError, match=f"found 127.0.0.1:{port} .*address already in use"):
        server.run(Queue().put)


def test_it_needs_little_where_somebody_elses_policy_lives() -> None:
    ours = "{'numpy', 'msgpack', 'websockets'}"
    code = (
        "import sys; from importlib.metadata import packages_distributions as known; "
        "before = set(sys.modules); import policies.remote.server; "
        "import policies.adapters.simpler, configs.lerobot; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        f"print(sorted((new & set(known())) - {ours}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "['configs', 'policies']\n"


@pytest.mark.parametrize("port", [-1, 65536])
def test_what_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match="expected a port from 0 .* to 65535"):
        PolicyServer(lambda: random_policy(STANDIN_SAWYER), port=port)
