"""A policy in a server: it acts as in process, and errors are reported."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.servers import plain, serving
from v2w_gym.configs.loader import load_config
from v2w_gym.configs.policies import PolicyConfig, RemoteConfig
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.policies.base import Policy
from v2w_gym.policies.conformance import PolicyConformance, roll
from v2w_gym.policies.remote.client import connect
from v2w_gym.policies.remote.wire import pack
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.policies.rt1.policy import RT1Policy
from v2w_gym.policies.scripted import random_policy

INSTRUCTIONS = ["close the drawer", "open the drawer", "close the drawer"]
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 3, 64, 64, 3), np.uint8)
ALL = np.ones(3, bool)
PI0 = RemoteConfig(layout="oxe7", chunk=2, timeout_s=5)
"""What openpi's servers do not announce."""


def make_random() -> Policy:
    return random_policy(STANDIN_SAWYER)


@pytest.fixture
def make_rt1(network, table) -> Callable[[], Policy]:
    return lambda: RT1Policy(network, STANDIN_SAWYER, table, "tiny", fingerprint="abc")


class TestRemoteRandom(PolicyConformance):
    """Numbers drawn from the slot's seed."""

    @pytest.fixture
    def policy(self) -> Iterator[Policy]:
        with serving(make_random) as url:
            yield connect(url)


class TestRemoteRT1(PolicyConformance):
    """A history, and instructions that are known or not."""

    @pytest.fixture
    def policy(self, make_rt1: Callable[[], Policy]) -> Iterator[Policy]:
        with serving(make_rt1) as url:
            yield connect(url)


def test_it_is_what_it_would_be_in_process(make_rt1: Callable[[], Policy]) -> None:
    for make in (make_random, make_rt1):
        here = make()
        with serving(make) as url:
            there = connect(url)
            assert (roll(there, FRAMES, INSTRUCTIONS) == roll(here, FRAMES, INSTRUCTIONS)).all()
            names = ("name", "layout", "image_size", "control_hz", "history", "chunk", "gripper")
            for name in names:
                assert getattr(there.meta, name) == getattr(here.meta, name)
            assert there.meta.fingerprint == here.meta.fingerprint or here.meta.fingerprint == ""
            there.close()


def test_a_robot_policy_acts_the_same(make_rt1: Callable[[], Policy]) -> None:
    with serving(make_rt1) as url:
        found = []
        for policy in (make_rt1(), connect(url)):
            on_robot = RobotPolicy(policy, STANDIN_SAWYER)
            on_robot.reset(INSTRUCTIONS, seeds=[1, 2, 3])
            found.append([on_robot.act(now, np.array([True, True, False])) for now in FRAMES])
            on_robot.close()
        assert np.array_equal(*found)


def test_an_instruction_that_the_server_refuses_is_an_error(make_rt1: Callable[[], Policy]) -> None:
    with serving(make_rt1) as url:
        policy = connect(url)
        with pytest.raises(
            ValueError, match=f"policy server at {url} reports: ValueError: .*juggle"
        ):
            policy.reset(["juggle"], seeds=[0])
        policy.reset(INSTRUCTIONS[:1], seeds=[0])  # and another one is not
        policy.act(FRAMES[0, :1], ALL[:1])
        policy.close()


def test_more_slots_than_connections_are_refused_before_anything_runs() -> None:
    with serving(make_random, connections=2) as url:
        policy = connect(url)
        with pytest.raises(ValueError, match=r"at most 2 slots .* \(batch_size=2\)"):
            policy.reset(INSTRUCTIONS, seeds=[0, 1, 2])
        other = connect(url)
        policy.reset(INSTRUCTIONS[:1], seeds=[0])
        with pytest.raises(ConnectionError, match="HTTP 503: expected at most 2 connections"):
            policy.reset(INSTRUCTIONS[:2], seeds=[0, 1])
        with pytest.raises(ValueError, match="in 0 slots"):  # no slot is left half begun
            policy.act(FRAMES[0, :2], ALL[:2])
        policy.close()
        other.close()


def answer_pi0(request: Mapping[str, Any]) -> bytes:
    """As openpi does: an answer depends on the request alone, in double precision."""
    value = float(request["observation/image"].mean()) + len(request["prompt"])
    return pack({"actions": np.full((2, 7), value), "server_timing": {"infer_ms": 1.0}})


def test_a_plain_server_gets_one_connection_per_slot_and_episode() -> None:
    with plain({}, answer_pi0) as server:
        policy = connect(server.url, PI0)
        for _ in range(2):
            policy.reset(INSTRUCTIONS[:2], seeds=[0, 1])
            for now in FRAMES[:2]:
                found = policy.act(now[:2], ALL[:2]).actions
                expected = now[:2].mean((1, 2, 3)) + [len(text) for text in INSTRUCTIONS[:2]]
                assert found == pytest.approx(np.broadcast_to(expected[:, None, None], (2, 2, 7)))
                assert found.dtype == np.float32
        policy.close()
    assert [len(requests) for requests in server.episodes] == [2, 2, 2, 2]
    for slot, requests in enumerate(server.episodes[2:]):
        assert [set(request) for request in requests] == [{"observation/image", "prompt"}] * 2
        assert {request["prompt"] for request in requests} == {INSTRUCTIONS[slot]}
        assert (requests[1]["observation/image"] == FRAMES[1, slot]).all()


def test_one_slot_of_a_plain_server_begins_anew_on_a_connection_of_its_own() -> None:
    with plain({}, answer_pi0) as server:
        policy = connect(server.url, PI0)
        policy.reset(INSTRUCTIONS, seeds=[0, 1, 2])
        policy.act(FRAMES[0], ALL)
        policy.reset(["not heard", "push", "not heard"], seeds=[0, 9, 0], slots=[1])
        policy.act(FRAMES[1], ALL)
        policy.close()
    prompts = [[request["prompt"] for request in requests] for requests in server.episodes]
    assert prompts == [[INSTRUCTIONS[0]] * 2, [INSTRUCTIONS[1]], [INSTRUCTIONS[2]] * 2, ["push"]]


def test_one_slot_of_our_server_is_reset_with_its_seed() -> None:
    reset = pack({"reset": True})
    answer = pack({"actions": np.zeros((2, 7), np.float32)})
    metadata = {**META, "supports_reset": True}
    with plain(metadata, lambda request: reset if "__reset__" in request else answer) as server:
        policy = connect(server.url, RemoteConfig(timeout_s=5))
        policy.reset(INSTRUCTIONS, seeds=[0, 1, 2])
        policy.reset(["", "push", ""], seeds=[7, 8, 9], slots=[1])
        policy.act(FRAMES[0], ALL)
        policy.close()
    assert [len(requests) for requests in server.episodes] == [2, 3, 2]
    assert server.episodes[1][1] == {"__reset__": {"instruction": "push", "seed": 8}}
    assert [requests[-1]["prompt"] for requests in server.episodes] == [
        INSTRUCTIONS[0],
        "push",
        INSTRUCTIONS[2],
    ]


def test_only_active_slots_send_requests() -> None:
    with plain({}, answer_pi0) as server:
        policy = connect(server.url, PI0)
        policy.reset(INSTRUCTIONS, seeds=[0, 1, 2])
        policy.act(FRAMES[0], np.array([False, True, False]))
        policy.close()
    assert [len(requests) for requests in server.episodes] == [0, 1, 0]


def test_all_requests_are_sent_before_the_first_response_is_awaited() -> None:
    def answer_when_all_have_sent(request: Mapping[str, Any]) -> bytes:
        end = time.monotonic() + 5
        while sum(map(len, server.episodes)) < 3 and time.monotonic() < end:
            time.sleep(0.001)
        assert time.monotonic() < end
        return answer_pi0(request)

    with plain({}, answer_when_all_have_sent) as server:
        policy = connect(server.url, PI0)
        policy.reset(INSTRUCTIONS, seeds=[0, 1, 2])
        policy.act(FRAMES[0], ALL)
        policy.close()


def test_the_names_in_a_request_are_settings() -> None:
    cfg = RemoteConfig(layout="oxe7", chunk=2, image_key="image", prompt_key="task")
    answer = pack({"actions": np.zeros((2, 7), np.float32)})
    with plain({}, lambda request: answer) as server:
        policy = connect(server.url, cfg)
        policy.reset(INSTRUCTIONS[:1], seeds=[0])
        policy.act(FRAMES[0, :1], ALL[:1])
        policy.close()
    assert set(server.episodes[0][0]) == {"image", "task"}


META = {"layout": "oxe7", "chunk": 2}


@pytest.mark.parametrize(
    ("metadata", "cfg", "message"),
    [
        ({}, {}, r"announce its layout, found \[\]; set it .*`remote: {layout: ...}`"),
        ({"layout": "oxe7"}, {}, r"announce its chunk, found \['layout'\]; .*{chunk: ...}`"),
        (META, {"layout": "oxe8"}, "layout: expected one of .* did you mean 'oxe7'"),
        ({**META, "chunk": 0}, {}, "the policy at ws://.*: expected chunk >= 1, found 0"),
        (
            {**META, "chunk": "2"},
            {},
            "set chunk: expected a whole number .*found '2'",
        ),
        (
            {**META, "chunk": True},
            {},
            "set chunk: expected a whole number .*found True",
        ),
        (
            {**META, "chunk": [2]},
            {},
            r"set chunk: expected a whole number .*found \[2\]",
        ),
        ({**META, "image_size": 224}, {}, "set image_size: expected a list such as .*, found 224"),
        ({**META, "image_size": [224, 0]}, {}, r"expected image_size\[1\] >= 1, found 0"),
        ({**META, "control_hz": -3}, {}, "expected control_hz >= 0.001, found -3"),
        (
            {**META, "gripper": "both"},
            {},
            "set gripper: expected one of .*, found 'both'",
        ),
        ({**META, "history": -1}, {}, "expected history >= 0, found -1"),
        ([1], {}, "expected metadata from .* as a dict, found list"),
        (b"\xc1", {}, "expected a msgpack message"),
        ("Traceback:\n  File\nKeyError: 'weights'\n", {}, r"reports: KeyError: 'weights'$"),
        ("", {}, "reports: nothing$"),
    ],
)
def test_metadata_that_cannot_be_used_is_refused(
    metadata: object, cfg: dict[str, Any], message: str
) -> None:
    with plain(metadata, answer_pi0) as server, pytest.raises(ValueError, match=message):
        connect(server.url, RemoteConfig(timeout_s=5, **cfg))


@pytest.mark.parametrize("events", [5, "none", {"a": 1}])
def test_what_others_call_events_is_not_counted(events: object) -> None:
    answer = pack({"actions": np.zeros((2, 7), np.float32), "events": events})
    with plain({}, lambda request: answer) as server:
        policy = connect(server.url, PI0)
        policy.reset(["go"], seeds=[0])
        assert policy.act(FRAMES[0][:1], np.ones(1, bool)).events == ()
        policy.close()


def test_settings_come_before_what_is_announced() -> None:
    announced = {**META, "image_size": [224, 224], "control_hz": 5, "name": "pi0", "max_batch": 4}
    cfg = RemoteConfig(chunk=1, image_size=(256, 320), control_hz=3.0, gripper="relative")
    with plain(announced, answer_pi0) as server:
        policy = connect(server.url, cfg)
        policy.close()
    meta = policy.meta
    assert (meta.name, meta.layout, meta.max_batch, meta.history) == ("pi0", "oxe7", 4, 0)
    assert (meta.chunk, meta.image_size, meta.control_hz) == (1, (256, 320), 3.0)
    assert meta.gripper == "relative"


def test_a_policy_file_says_what_the_server_does_not(tmp_path: Path) -> None:
    path = tmp_path / "pi0.yaml"
    with plain({}, answer_pi0) as server:
        path.write_text(
            f"source: {server.url}\nname: pi0\n"
            "remote: {layout: oxe7, chunk: 2, image_size: [64, 64], control_hz: 3}\n"
        )
        cfg = load_config(PolicyConfig, [str(path)], [])
        policy = connect(cfg.source, cfg.remote)
        policy.close()
    assert (policy.meta.layout, policy.meta.chunk, policy.meta.control_hz) == ("oxe7", 2, 3)
    assert policy.meta.image_size == (64, 64)


def test_a_fingerprint_is_announced_or_that_of_what_is_announced() -> None:
    prints = []
    for metadata in (META, META, {**META, "name": "b"}, {**META, "fingerprint": "abc"}):
        with plain(metadata, answer_pi0) as server:
            policy = connect(server.url)
            policy.close()
        prints.append(policy.meta.fingerprint)
    assert prints[0] == prints[1] != prints[2]
    assert len(prints[0]) == 64
    assert prints[3] == "abc"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (pack({"actions": np.zeros((2, 8))}), r"shape \(2, 7\) .*, found float64 \(2, 8\)"),
        (pack({"actions": np.zeros((1, 7))}), r"found float64 \(1, 7\)"),
        (pack({"actions": np.zeros(7)}), r"found float64 \(7,\)"),
        (pack({"actions": np.zeros((2, 7), np.int64)}), r"found int64 \(2, 7\)"),
        (pack({"actions": [[0.0] * 7] * 2}), r"found \[\[0.0"),
        (pack({"action": 1}), "found None"),
        (pack([1, 2]), "expected a response from .* as a dict, found list"),
        (b"\xc1\x00", "expected a msgpack message .* found 2 bytes"),
        (
            "Traceback (most recent call last):\nValueError: too dark\n",
            "reports: ValueError: too dark",
        ),
    ],
)
def test_an_answer_that_cannot_be_used_is_refused(answer: bytes | str, message: str) -> None:
    with plain({}, lambda request: answer) as server:
        policy = connect(server.url, PI0)
        policy.reset(INSTRUCTIONS[:1], seeds=[0])
        with pytest.raises(ValueError, match=message):
            policy.act(FRAMES[0, :1], ALL[:1])
        policy.close()


def test_the_whole_traceback_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with plain({}, lambda request: "Traceback:\n  deep inside\nValueError: too dark") as server:
        policy = connect(server.url, PI0)
        policy.reset(INSTRUCTIONS[:1], seeds=[0])
        with pytest.raises(ValueError):
            policy.act(FRAMES[0, :1], ALL[:1])
    assert "  deep inside" in caplog.text


def test_a_slow_server_is_an_error_that_names_the_setting() -> None:
    def sleep(request: Mapping[str, Any]) -> bytes:
        time.sleep(0.5)
        return answer_pi0(request)

    with plain({}, sleep) as server:
        policy = connect(server.url, RemoteConfig(layout="oxe7", chunk=2, timeout_s=0.1))
        policy.reset(INSTRUCTIONS, seeds=[0, 1, 2])
        with pytest.raises(
            TimeoutError, match=r"a response from .* within 0.1 s.*timeout_s: \.\.\."
        ):
            policy.act(FRAMES[0], ALL)
        # the late answers are not taken for those to the next requests
        with pytest.raises(ValueError, match="in 0 slots"):
            policy.act(FRAMES[1], ALL)


@pytest.mark.parametrize("url", ["ws://", "ws://127.0.0.1:port"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected a server's URL like ws://host:port"):
        connect(url, PI0)


@pytest.mark.parametrize(
    "changes",
    [
        {"timeout_s": 0.0},
        {"timeout_s": np.nan},
        {"timeout_s": np.inf},
        {"timeout_s": 1e20},
        {"reconnects": -1},
        {"reconnects": 10**12},
    ],
)
def test_patience_out_of_range_is_refused(changes: dict) -> None:
    with pytest.raises(ValueError, match="(timeout_s|reconnects).*found"):
        connect("ws://127.0.0.1:1", replace(PI0, **changes))


@pytest.mark.parametrize("url", ["ws://127.0.0.1:{port}", "ws://no.such.host.invalid:8000"])
def test_no_server_is_an_error_that_says_what_to_do(url: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = url.format(port=taken.getsockname()[1])
        with pytest.raises(
            ConnectionError, match=f"a policy server at {url}, found none .*; start it"
        ):
            connect(url, PI0)


def test_something_else_than_a_server_is_an_error() -> None:
    with pytest.raises(ValueError, match="URL like ws://host:port, found 'http://127.0.0.1:1'"):
        connect("http://127.0.0.1:1", PI0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectionError, match="found none"):
            connect(url, RemoteConfig(timeout_s=0.2))


def test_a_server_that_goes_within_an_episode_ends_it() -> None:
    with plain({}, answer_pi0) as server:
        policy = connect(server.url, PI0)
        policy.reset(INSTRUCTIONS, seeds=[0, 1, 2])
        policy.act(FRAMES[0], ALL)
        server.break_connections()
        with pytest.raises(
            ConnectionError, match=f"policy server at {server.url}, found that it had"
        ):
            policy.act(FRAMES[1], ALL)
        policy.reset(INSTRUCTIONS, seeds=[0, 1, 2])  # a new episode may begin
        policy.act(FRAMES[0], ALL)
        policy.close()


def test_connections_that_break_between_episodes_are_made_again() -> None:
    with plain({**META, "supports_reset": True}, lambda request: pack({"reset": True})) as server:
        policy = connect(server.url, PI0)
        policy.reset(INSTRUCTIONS, seeds=[0, 1, 2])
        server.break_connections()
        time.sleep(0.1)
        policy.reset(INSTRUCTIONS, seeds=[0, 1, 2])
        policy.close()


def test_a_stateless_server_gets_the_request_again() -> None:
    with plain({**META, "stateless": True}, answer_pi0) as server:
        policy = connect(server.url, RemoteConfig(timeout_s=5))
        policy.reset(INSTRUCTIONS, seeds=[0, 1, 2])
        expected = policy.act(FRAMES[1], ALL)
        server.going[1].close_socket()
        found = policy.act(FRAMES[1], ALL)
        assert found.events == ((1, "reconnected"),)
        assert (found.actions == expected.actions).all()
        assert policy.act(FRAMES[1], ALL).events == ()
        policy.close()
    assert len(server.episodes) == 4  # an episode alone needs no new connection


def test_a_server_is_stateless_if_the_settings_say_so() -> None:
    """openpi's servers remember nothing, and do not announce it."""
    with plain({}, answer_pi0) as server:
        policy = connect(server.url, replace(PI0, stateless=True))
        policy.reset(INSTRUCTIONS, seeds=[0, 1, 2])
        expected = policy.act(FRAMES[1], ALL)
        server.going[2].close(1011, "keepalive ping timeout")
        found = policy.act(FRAMES[1], ALL)
        policy.close()
    assert found.events == ((2, "reconnected"),)
    assert (found.actions == expected.actions).all()


def test_a_server_that_remembers_is_not_stateless() -> None:
    with plain({**META, "remembers": True}, answer_pi0) as server:
        connect(server.url).close()
        with pytest.raises(
            ValueError, match=f"server without history at {server.url} for stateless: tr"
        ):
            connect(server.url, RemoteConfig(stateless=True))


def test_a_stateless_server_that_stays_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    with plain({**META, "stateless": True}, answer_pi0) as server:
        policy = connect(server.url, RemoteConfig(timeout_s=5, reconnects=3))
        policy.reset(INSTRUCTIONS[:1], seeds=[0])
    monkeypatch.setattr("v2w_gym.policies.remote.channel.time.sleep", waits.append)
    with pytest.raises(ConnectionError, match="found none"):
        policy.act(FRAMES[0, :1], ALL[:1])
    assert waits == [0.5, 1.0, 2.0]


def test_a_server_that_serves_something_else_now_is_refused() -> None:
    with plain({**META, "name": "a"}, answer_pi0) as server:
        policy = connect(server.url, PI0)
        policy.reset(INSTRUCTIONS[:1], seeds=[0])
        policy.act(FRAMES[0, :1], ALL[:1])
        server.metadata = pack({**META, "name": "b"})
        with pytest.raises(ValueError, match="to serve the same policy as before"):
            policy.reset(INSTRUCTIONS[:1], seeds=[0])
        policy.close()


THEIRS = Path(__file__).with_name("openpi_side.py")


@pytest.mark.slow
def test_the_client_of_openpi_is_served(openpi_python: str) -> None:
    """`openpi_client.websocket_client_policy.WebsocketClientPolicy` against our server."""
    with serving(make_random) as url:
        ran = subprocess.run(
            [openpi_python, str(THEIRS), "client", url],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        policy = connect(url)
        expected = roll(policy, np.zeros((3, 1, 64, 64, 3), np.uint8), ["close the drawer"])
        policy.close()
    lines = [line for line in ran.stdout.splitlines() if line]
    assert lines[0] == "random fractal13"
    values = np.array([[float(word) for word in line.split()] for line in lines[1:4]], np.float32)
    assert (values == expected[:, 0, 0]).all()
    assert "RuntimeError Error in inference server" in lines[4]
    assert "expected a frame (H, W, 3)" in ran.stdout


@pytest.mark.slow
def test_a_server_of_openpi_responds(openpi_python: str) -> None:
    """Our client against a server of openpi's `msgpack_numpy` and websockets."""
    server = subprocess.Popen(
        [openpi_python, str(THEIRS), "server"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        policy = connect(server.stdout.readline().strip(), PI0)
        policy.reset(INSTRUCTIONS, seeds=[0, 1, 2])
        found = policy.act(FRAMES[0], ALL).actions
        expected = FRAMES[0].astype(np.float64).mean((1, 2, 3))
        assert found[:, 1, 6] == pytest.approx(expected)
        assert policy.meta.fingerprint
        with pytest.raises(ValueError, match="reports: ZeroDivisionError: division by zero"):
            policy.act(np.zeros_like(FRAMES[0]), ALL)
        policy.close()
    finally:
        server.kill()
        server.wait()
