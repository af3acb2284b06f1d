"""Hostile, faulty or slow servers: a one-line error in time, and nothing printed raw."""

import logging
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.servers import frame, plain, raw, upgrade
from v2w_gym.configs.policies import RemoteConfig
from v2w_gym.policies.remote.client import RemotePolicy, connect
from v2w_gym.policies.remote.wire import pack

CFG = RemoteConfig(layout="oxe7", chunk=2, timeout_s=0.5)
ACTIONS = np.zeros((2, 7), np.float32)
ANSWER = frame(2, pack({"actions": ACTIONS}))
METADATA = frame(2, pack({}))
RED, BELL = "\x1b[31m", "\x07"


def ask(policy: RemotePolicy, pixels: int = 8) -> list[tuple[int, str]]:
    policy.reset(["go"], seeds=[0])
    shown = np.zeros((1, pixels, pixels, 3), np.uint8)
    return [event for _ in range(2) for event in policy.act(shown, np.ones(1, bool)).events]


def refused(url: str, cfg: RemoteConfig = CFG, pixels: int = 8) -> str:
    """Return the one line with which a server is refused."""
    with pytest.raises((ValueError, ConnectionError, TimeoutError)) as error:
        ask(connect(url, cfg), pixels)
    line = str(error.value)
    assert url in line or "msgpack message" in line or "layout to be one of" in line
    assert line.isprintable()
    assert len(line) < 1500
    return line


def for_ever(connection: socket.socket, data: bytes, pause: float = 0) -> None:
    while True:
        connection.sendall(data)
        time.sleep(pause)


def byte_by_byte(connection: socket.socket, data: bytes) -> None:
    for value in data:
        connection.sendall(bytes([value]))
        time.sleep(0.05)


def then(*data: bytes) -> Callable[[socket.socket], None]:
    """Shake hands, send some data, and wait."""

    def behave(connection: socket.socket) -> None:
        upgrade(connection)
        connection.sendall(b"".join(data))
        while connection.recv(1 << 16):
            pass

    return behave


def http(answer: bytes) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        connection.recv(4096)
        connection.sendall(answer)

    return behave


@pytest.mark.parametrize(
    ("behave", "expected"),
    [
        (lambda connection: None, "found none"),
        (http(b"SSH-2.0-OpenSSH_9.9\r\n"), "found none"),
        (http(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK"), "found HTTP 200: OK"),
        (
            http(b"HTTP/1.1 503 No\r\nContent-Length: 15\r\n\r\n\x1b[31mbusy\x07\r\nnow"),
            "found HTTP 503: busy  now",
        ),
        (
            http(b"HTTP/1.1 302 No\r\nLocation: http://else/\r\nContent-Length: 0\r\n\r\n"),
            "redirects to http://else/",
        ),
        (lambda connection: byte_by_byte(connection, b"HTTP/1.1 101 X\r\n" * 99), "found none"),
        (lambda connection: for_ever(connection, b"x" * 99_999), "found none"),
        (then(), "expected metadata from .* within 0.5 s, found none"),
        (then(b"\x82\x7e\xff"), "within 0.5 s"),
        (then(frame(1, b"\xff\xfe")), "found that it had gone .*1007"),
        (then(frame(2, b"\x80", last=False), frame(0, b"", last=False) * 5000), "had gone .*1009"),
        (then(frame(2, bytes(2**20 + 1))), "metadata of at most 1048576 bytes .* found 1048577"),
        (then(frame(2, b"\x81\xa1a" + b"\x91" * 600)), "expected a msgpack message"),
        (then(METADATA), "expected a response from .* within 0.5 s, found none"),
        (then(METADATA, ANSWER, ANSWER), "to send only responses, found a message of "),
        (
            lambda connection: (upgrade(connection), for_ever(connection, frame(9, b"ping" * 20))),
            "within 0.5 s",
        ),
        (
            lambda connection: (
                upgrade(connection),
                connection.sendall(METADATA),
                for_ever(connection, frame(2, bytes(10 * 2**20))),
            ),
            "to send only responses|as a dict|expected a msgpack message",
        ),
        (
            lambda connection: (upgrade(connection), byte_by_byte(connection, METADATA + ANSWER)),
            "within 0.5 s",
        ),
    ],
    ids=range(18),
)
def test_what_is_no_policy_server_is_refused(
    behave: Callable[[socket.socket], object], expected: str
) -> None:
    with raw(behave) as url:
        line = refused(url)
    assert re.search(expected, line), line


def read_slowly(connection: socket.socket) -> None:
    upgrade(connection)
    connection.sendall(METADATA)
    while connection.recv(1000):
        time.sleep(0.02)


@pytest.mark.parametrize("behave", [then(METADATA), read_slowly])
def test_a_server_that_does_not_read_is_an_error(
    behave: Callable[[socket.socket], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stuck(connection: socket.socket) -> None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        if behave is read_slowly:
            read_slowly(connection)
        upgrade(connection)
        connection.sendall(METADATA)
        time.sleep(5)

    with raw(stuck) as url:
        line = refused(url, pixels=3000)
    assert f"expected room for a request from the policy server at {url} within 0.5 s" in line


def test_silent_servers_of_many_slots_are_given_up_together() -> None:
    """No closing handshake is awaited, which would take two seconds each."""
    with raw(then(METADATA)) as url:
        policy = connect(url, CFG)
        policy.reset(["go"] * 8, seeds=range(8))
        with pytest.raises(TimeoutError):
            policy.act(np.zeros((8, 8, 8, 3), np.uint8), np.ones(8, bool))
        policy.close()


REPORTS = {
    f"Traceback:\n  {RED}File\x00\nValueError: {RED}too dark{BELL}\r\n": "ValueError: too dark$",
    "KeyError: 'observation/\x1b[2Jstate'": "it needs observation/state besides a frame",
    "ValueError: \u202egnp.exe": "reports: ValueError: gnp.exe$",
    "x" * 10**7: r"reports: x{500}\.\.\.$",
    "a\n" * 10**6: "reports: a$",
    " \n\t\n": "reports: nothing$",
}


@pytest.mark.parametrize("report", REPORTS, ids=range(len(REPORTS)))
def test_what_a_server_reports_is_printed_without_control_characters(
    report: str, caplog: pytest.LogCaptureFixture
) -> None:
    with plain({}, lambda request: report) as server, caplog.at_level(logging.INFO):
        line = refused(server.url, replace(CFG, timeout_s=5))
    assert re.search(REPORTS[report], line), line
    assert all(logged.isprintable() for logged in caplog.text.splitlines())
    assert len(caplog.text) < 60_000


BEYOND = {
    "name": [3, ["a"], "x" * 201],
    "fingerprint": [3, {}, "x" * 201],
    "layout": [["oxe7"], {"oxe7": 1}, "x" * 10**5, f"{RED}oxe7"],
    "image_size": [[10**9, 10**9], [224, [1]], np.array([224, 224]), [True, True]],
    "control_hz": [np.ones(3), float("nan"), float("inf"), 1e300, "3", True],
    "history": [np.zeros(2), -1, 2**63, 0.5],
    "chunk": [np.ones(3), 10**12, [[2]], 1e300, float("nan")],
    "max_batch": [np.ones(2), 0, "many"],
    "gripper": [np.array(["absolute"]), ["absolute"], {}, 1, f"absolute{BELL}"],
    "rotation": [np.zeros(3), [], None or 0],
    "execution_horizon": [np.ones(2), -1, 1e9, 10**12],
    "ensemble": [np.ones(2), float("nan"), float("inf"), "all"],
    "supports_reset": [np.ones(2), 1, "yes", []],
    "stateless": [np.ones(2), 1, "yes", {"a": {}}],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BEYOND.items() for value in values]
)
def test_what_is_announced_and_cannot_be_is_refused(name: str, value: Any) -> None:
    metadata = {"layout": "oxe7", "chunk": 2, name: value}
    with plain(metadata, lambda request: pack({"actions": ACTIONS})) as server:
        assert name in refused(server.url, RemoteConfig(timeout_s=5))


def test_a_name_is_shown_without_control_characters() -> None:
    answer = pack({"actions": ACTIONS})
    for announced, name in ((f"{RED}pi0\n", "pi0"), (f"{RED}{BELL}", None), ("", None)):
        with plain(
            {"name": announced, **{"layout": "oxe7", "chunk": 2}}, lambda _: answer
        ) as server:
            policy = connect(server.url)
            policy.close()
        assert policy.meta.name == (name or server.url)


def events_of(*answers: list[Any]) -> list[tuple[int, str]]:
    events = iter(answers)
    with plain({}, lambda _: pack({"actions": ACTIONS, "events": next(events)})) as server:
        policy = connect(server.url, replace(CFG, timeout_s=5))
        found = ask(policy)
        policy.close()
    return found


def test_events_are_short_texts_and_not_too_many() -> None:
    assert events_of(["slipped", "slipped"], [f"{RED}hot{BELL}"]) == [
        (0, "slipped"),
        (0, "slipped"),
        (0, "hot"),
    ]
    assert events_of([{}, [], None, 3, np.zeros(2)], []) == []
    (event,) = events_of(["x" * 10**6], [])
    assert event == (0, "x" * 100 + "...")
    many = events_of([f"first {i}" for i in range(10**4)], [f"second {i}" for i in range(10**4)])
    assert len(many) == 100
    assert len(set(many)) == 51
    assert many[-1] == (0, "another event of the server")


@pytest.mark.parametrize("value", [1e300, -1e39])
def test_actions_beyond_float32_are_refused(value: float) -> None:
    answer = pack({"actions": np.full((2, 7), value)})
    with plain({}, lambda request: answer) as server:
        line = refused(server.url, replace(CFG, timeout_s=5))
    assert f"expected actions that fit into float32 from the policy server at {server.url}" in line


def answer_zeros(request: Mapping[str, Any]) -> bytes:
    return pack({"actions": ACTIONS})


def test_an_api_key_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = RemoteConfig(layout="oxe7", chunk=2, api_key_variable="SOME_KEY")
    with plain({}, answer_zeros) as server:
        for key in (None, "", "two\r\nlines", "schlüssel"):
            monkeypatch.delenv("SOME_KEY", raising=False)
            if key is not None:
                monkeypatch.setenv("SOME_KEY", key)
            with pytest.raises(
                ValueError, match="an API key in the environment variable 'SOME_KEY'"
            ):
                connect(server.url, cfg)
        monkeypatch.setenv("SOME_KEY", "secret")
        policy = connect(server.url, cfg)
        headers = server.going[0].request.headers
        policy.close()
    assert headers["Authorization"] == "Api-Key secret"


def test_a_password_in_an_address_is_used_and_not_shown() -> None:
    with plain({}, answer_zeros) as server:
        policy = connect(server.url.replace("ws://", "ws://me:secret@"), CFG)
        headers = server.going[0].request.headers
        policy.reset(["go"], seeds=[0])
        policy.reset(["go"], seeds=[0])  # connects again
        server.break_connections()
        with pytest.raises(ConnectionError) as error:
            policy.act(np.zeros((1, 8, 8, 3), np.uint8), np.ones(1, bool))
    assert headers["Authorization"].startswith("Basic ")
    assert policy.meta.name == server.url
    assert server.url in str(error.value)


def test_a_server_without_tls_is_no_wss_server() -> None:
    with (
        plain({}, answer_zeros) as server,
        pytest.raises(ConnectionError, match="to use TLS"),
    ):
        connect(server.url.replace("ws://", "wss://"), CFG)


def test_a_proxy_is_one_that_the_settings_name(monkeypatch: pytest.MonkeyPatch) -> None:
    requests: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        requests.append(connection.recv(4096))
        connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    with plain({}, answer_zeros) as server, raw(behave) as proxy:
        proxy = proxy.replace("ws://", "http://")
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy)
        connect(server.url, CFG).close()  # directly
        assert not requests
        with pytest.raises(ConnectionError, match="found none .*403"):
            connect(server.url, replace(CFG, proxy=proxy))
        assert requests[0].startswith(f"CONNECT {server.url[5:]} ".encode())
    with pytest.raises(
        ValueError, match="expected an HTTP proxy like http://host:port, found 'none'"
    ):
        connect(server.url, replace(CFG, proxy="none"))
