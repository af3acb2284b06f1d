"""Our server: its protocol, its errors, and its end."""

import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from inspect import signature
from pathlib import Path
from queue import Queue
from unittest.mock import patch

import numpy as np
import pytest
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.servers import serving
from v2w_gym.configs.policies import ServePolicyConfig
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.policies.base import ActionBatch, PolicyMeta, check_frames, check_reset
from v2w_gym.policies.remote.client import connect as connect_policy
from v2w_gym.policies.remote.server import PolicyServer
from v2w_gym.policies.remote.wire import pack, unpack
from v2w_gym.policies.scripted import random_policy

ROOT = Path(__file__).parents[3]
FRAME = np.zeros((64, 64, 3), np.uint8)
REQUEST = {"observation/image": FRAME, "prompt": "close the drawer"}


class Witness:
    """Answers with its seed and its step; records its calls."""

    def __init__(self, calls: list[tuple[str, str, int]]) -> None:
        self.meta = PolicyMeta("witness", "oxe7", (64, 64), 3.0, history=2, fingerprint="abc")
        self.calls = calls
        self.thread = threading.get_ident()

    def reset(self, instructions: Sequence[str], *, seeds: Sequence[int]) -> None:
        check_reset(self.meta, instructions, seeds)
        self.calls.append(("reset", instructions[0], seeds[0]))
        self.seed, self.step = seeds[0], 0
        if instructions[0] == "fail":
            raise RuntimeError("it burns")

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
        check_frames(self.meta, 1, frames, active)
        self.step += 1
        actions = np.full((1, 1, 7), self.seed + 0.5 * self.step, np.float32)
        return ActionBatch(actions, ((0, "something odd"),))

    def close(self) -> None:
        self.calls.append(("close", "", 0))


@pytest.fixture
def calls() -> list[tuple[str, str, int]]:
    return []


@pytest.fixture
def url(calls: list[tuple[str, str, int]]) -> Iterator[str]:
    with serving(lambda: Witness(calls), connections=2) as url:
        yield url


def dial(url: str) -> ClientConnection:
    return connect(url, compression=None, max_size=None, proxy=None)


def test_it_announces_its_metadata(url: str) -> None:
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
            "remembers": True,
        }


def ask(connection: ClientConnection, request: object) -> dict:
    connection.send(pack(request))
    return unpack(connection.recv(5))


def test_a_reset_begins_an_episode_with_its_seed(
    url: str, calls: list[tuple[str, str, int]]
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
    assert calls == [("reset", "close the drawer", 7)] * 2


def test_without_a_reset_an_episode_is_an_instruction(
    url: str, calls: list[tuple[str, str, int]]
) -> None:
    with dial(url) as connection:
        connection.recv(5)
        prompts = ["close the drawer", "close the drawer", "open the drawer"]
        found = [
            ask(connection, {**REQUEST, "prompt": prompt})["actions"][0, 0] for prompt in prompts
        ]
    assert found == [0.5, 1.0, 0.5]
    assert calls == [("reset", "close the drawer", 0), ("reset", "open the drawer", 0)]


def test_the_next_connection_begins_anew_with_a_policy_that_is_free(
    url: str, calls: list[tuple[str, str, int]]
) -> None:
    for _ in range(3):
        with dial(url) as connection:
            connection.recv(5)
            assert ask(connection, REQUEST)["actions"][0, 0] == 0.5
    assert calls == [("reset", "close the drawer", 0)] * 3  # and nothing was closed


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
    url: str, calls: list[tuple[str, str, int]], message: bytes | str, reported: str
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
    assert calls[-1] == ("close", "", 0)  # it may be in any state
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


def test_stopping_ends_connections_and_closes_policies(calls: list[tuple[str, str, int]]) -> None:
    with ExitStack() as stack:
        with serving(lambda: Witness(calls)) as url:
            connection = stack.enter_context(dial(url))
            connection.recv(5)
        with pytest.raises(ConnectionClosed) as ended:
            connection.recv(5)
    assert ended.value.rcvd is not None and ended.value.rcvd.code == 1001
    assert calls == [("close", "", 0)]


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
        "sys.modules['gymnasium'] = None; "
        "before = set(sys.modules); from v2w_gym import PolicyMeta, PolicyServer; "
        "import v2w_gym.policies.adapters.simpler, v2w_gym.configs.policies; "
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        f"print(sorted((new & set(known())) - {ours}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == "['v2w_gym']\n"


def test_a_frame_may_begin_an_episode(url: str, calls: list[tuple[str, str, int]]) -> None:
    """What the client of openpi can send: its own reset sends nothing."""
    with dial(url) as connection:
        connection.recv(5)
        resets = [None, True, False, None, np.bool_(True), {"seed": 3}]
        requests = [
            REQUEST if begun is None else {**REQUEST, "__reset__": begun} for begun in resets
        ]
        found = [ask(connection, request)["actions"][0, 0] for request in requests]
    assert found == [0.5, 0.5, 1.0, 1.5, 0.5, 3.5]
    assert calls == [("reset", "close the drawer", seed) for seed in (0, 0, 0, 3)]


def test_a_client_that_begins_no_episode_is_warned_of_once(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    def warnings() -> int:
        lines = [record.getMessage() for record in caplog.records]
        return sum("'witness', which has a history of 2 frames, so" in line for line in lines)

    reset = {"__reset__": {"instruction": "close the drawer", "seed": 7}}
    begun = {**REQUEST, "__reset__": True}
    found = []
    for requests in (
        [REQUEST] * 3,
        [reset, REQUEST, REQUEST],
        [begun, REQUEST],
        [REQUEST, REQUEST],
    ):
        with dial(url) as connection:
            connection.recv(5)
            for request in requests:
                ask(connection, request)
        found.append(warnings())
    assert found == [1, 1, 1, 2]


def test_a_policy_that_remembers_nothing_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with serving(lambda: random_policy(STANDIN_SAWYER)) as url, dial(url) as connection:
        assert unpack(connection.recv(5))["remembers"] is False
        ask(connection, REQUEST)
    assert not caplog.records


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize(("host", "expected"), [("::1", "ws://[::1]:"), ("::", "ws://[::1]:")])
def test_the_url_that_is_told_can_be_connected_to_with_ipv6(host: str, expected: str) -> None:
    with serving(lambda: random_policy(STANDIN_SAWYER), host=host) as url:
        assert url.startswith(expected)
        policy = connect_policy(url)
        policy.reset(["go"], seeds=[0])
        policy.close()


def test_the_url_of_all_addresses_is_one_of_this_machine() -> None:
    with serving(lambda: random_policy(STANDIN_SAWYER), host="0.0.0.0") as url:
        assert url.startswith("ws://127.0.0.1:")
        connect_policy(url).close()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "300.1.1.1", "a" * 70, "::2::3"])
def test_what_is_no_address_is_an_error(host: str) -> None:
    server = PolicyServer(lambda: random_policy(STANDIN_SAWYER), host=host, port=0)
    with pytest.raises(OSError, match=f"expected an address to listen at, found {host}:0"):
        server.run(Queue().put)


def test_a_client_that_stalls_is_waited_for() -> None:
    """A process that is stopped answers no pings, like one that loads a simulator."""
    code = (
        "import sys, numpy as np; from v2w_gym.policies.remote.client import connect; "
        "policy = connect(sys.argv[1]); policy.reset(['go'], seeds=[0]); "
        "ask = lambda: policy.act(np.zeros((1, 64, 64, 3), np.uint8), np.ones(1, bool)); "
        "ask(); print('first', flush=True); sys.stdin.readline(); ask(); print('second')"
    )
    with (
        patch("v2w_gym.policies.remote.server.PING_EVERY", 0.05),
        serving(lambda: Witness([]), client_timeout_s=60) as url,
        subprocess.Popen(
            [sys.executable, "-c", code, url],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as client,
    ):
        assert client.stdout is not None
        assert client.stdout.readline() == "first\n"
        client.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        client.send_signal(signal.SIGCONT)
        assert client.communicate("go\n", timeout=30)[0] == "second\n"


def dial_by_hand(url: str) -> socket.socket:
    """Connect, and leave all that follows to the test."""
    host, port = url.removeprefix("ws://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    connection.sendall(
        b"GET / HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert b"101" in connection.recv(4096)
    return connection


def test_a_client_that_breaks_the_protocol_and_stays_does_not_hold_the_server() -> None:
    with (
        patch("v2w_gym.policies.remote.server.PING_EVERY", 0.1),
        patch("v2w_gym.policies.remote.server.CLOSE_TIMEOUT", 0.1),
        ExitStack() as stack,
        serving(lambda: Witness([])) as url,
    ):
        stack.enter_context(dial_by_hand(url)).sendall(b"\xff\xff")
        with dial(url) as connection:
            assert unpack(connection.recv(5))["name"] == "witness"


def test_the_place_of_a_client_that_is_gone_for_good_is_free_again() -> None:
    """It answers no pings and closes nothing: a machine without power, a broken cable."""
    with serving(lambda: Witness([]), connections=1, client_timeout_s=0.2) as url:
        with dial_by_hand(url) as gone:
            while gone.recv(4096):
                pass
        with dial(url) as connection:
            assert unpack(connection.recv(5))["name"] == "witness"


def test_half_an_hour_is_what_a_client_may_stall() -> None:
    """A minute is common; websockets' own 20 seconds are not enough."""
    assert signature(PolicyServer).parameters["client_timeout_s"].default == 1800
    assert ServePolicyConfig("zero").client_timeout_s == 1800


@pytest.mark.parametrize(
    "request_of",
    [
        {"prompt": "\x1b[31mred\x07"},
        {"prompt": "x" * 10**6},
        {"prompt": 3},
        {"\x1b[31mred\x07": 1},
        {"observation/image": "\x1b[31mred\x07", "prompt": "go"},
        {"__reset__": {"instruction": "x" * 10**6, "seed": 0}},
        {"__reset__": {"instruction": "go", "seed": None}},
        {"__reset__": {"instruction": "go", "seed": 0.5}},
        {**REQUEST, "__reset__": "yes"},
        {**REQUEST, "__reset__": {"seed": "\x1b[31m"}},
        {**REQUEST, "__reset__": {"instruction": "go", "seed": 0}},
    ],
    ids=range(11),
)
def test_what_a_client_sends_is_not_printed_raw(
    url: str, request_of: object, caplog: pytest.LogCaptureFixture
) -> None:
    with dial(url) as connection:
        connection.recv(5)
        connection.send(pack(request_of))
        answer = connection.recv(5)
        assert isinstance(answer, str)
        assert "ValueError: expected" in answer.splitlines()[-1]
        with pytest.raises(ConnectionClosed):
            connection.recv(5)
    for line in (*answer.splitlines(), *caplog.text.splitlines()):
        assert line.isprintable()
        assert len(line) < 1000


def test_who_is_no_client_is_not_worth_a_traceback(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    host, port = url.removeprefix("ws://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as scanner:
        scanner.sendall(b"\x16\x03\x01\x1b[31m\r\n\r\n")
        while scanner.recv(4096):
            pass
    assert not caplog.records


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"connections": 0}, "expected connections >= 1"),
        ({"connections": 10**12}, "at most 10000, found 1000000000000"),
        ({"client_timeout_s": 0.0}, "a positive client_timeout_s"),
        ({"client_timeout_s": float("nan")}, "a positive client_timeout_s"),
        ({"client_timeout_s": 1e20}, "a positive client_timeout_s"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PolicyServer(lambda: random_policy(STANDIN_SAWYER), **settings)


@pytest.mark.parametrize("port", [-1, 65536])
def test_what_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(ValueError, match="expected a port from 0 .* to 65535"):
        PolicyServer(lambda: random_policy(STANDIN_SAWYER), port=port)
