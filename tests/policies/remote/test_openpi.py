"""openpi's own server configurations and its client: their inputs and their history."""

import logging
import re
import subprocess
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.servers import plain, serving
from v2w_gym.configs.policies import RemoteConfig
from v2w_gym.configs.robots import GOOGLE_ROBOT, RobotSpec
from v2w_gym.policies.base import Policy
from v2w_gym.policies.loading import load_policy, make_policy, policy_config
from v2w_gym.policies.remote.client import connect
from v2w_gym.policies.remote.wire import pack
from v2w_gym.policies.rt1.policy import RT1Policy

ROOT = Path(__file__).parents[3]
FRAMES = np.random.default_rng(0).integers(1, 256, (2, 256, 320, 3), np.uint8)
BOTH = np.ones(2, bool)
Infer = Callable[[Mapping[str, Any]], np.ndarray]


def infer_libero(request: Mapping[str, Any]) -> np.ndarray:
    """Read a request as LiberoInputs does; the answer says what was in it."""
    images = [image_of(request, f"observation/{name}") for name in ("image", "wrist_image")]
    state = np.asarray(request["observation/state"])
    assert state.shape == (8,)
    assert isinstance(request["prompt"], str)
    assert images[0].shape == images[1].shape == (224, 224, 3)
    inputs = [images[0].mean() / 255, images[1].mean() / 255, state.sum()]
    return np.tile([*inputs, 0.0, 0.0, 0.0, 1.0], (10, 1))


def infer_droid(request: Mapping[str, Any]) -> np.ndarray:
    """Read a request as DroidInputs does."""
    gripper = np.asarray(request["observation/gripper_position"])
    gripper = gripper[np.newaxis] if gripper.ndim == 0 else gripper
    state = np.concatenate([request["observation/joint_position"], gripper])
    assert state.shape == (8,)
    for name in ("exterior_image_1_left", "wrist_image_left"):
        assert image_of(request, f"observation/{name}").shape == (224, 224, 3)
    assert isinstance(request["prompt"], str)
    return np.tile(np.linspace(-1, 1, 8), (15, 1))


def image_of(request: Mapping[str, Any], name: str) -> np.ndarray:
    image = np.asarray(request[name])
    assert image.dtype == np.uint8
    return image


def as_openpi(infer: Infer) -> Callable[[Mapping[str, Any]], bytes | str]:
    """Answer as openpi's server does: actions in double precision, or a traceback as text."""

    def answer(request: Mapping[str, Any]) -> bytes | str:
        try:
            return pack({"actions": infer(request), "policy_timing": {"infer_ms": 1.0}})
        except (AssertionError, KeyError, ValueError):
            return traceback.format_exc()

    return answer


def shown(name: str, url: str, folder: Path, without: str = "nothing at all") -> str:
    """Write a policy file of the README's, less the lines with `without`; return its path."""
    text = (ROOT / "docs" / "guides" / "policy_servers.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"^```yaml\n(# {name}:.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for line in block.splitlines() if without not in line]
    path = folder / name
    path.write_text("\n".join(lines).replace("ws://127.0.0.1:8000", url))
    return str(path)


def test_the_libero_configuration_is_driven(tmp_path: Path) -> None:
    with plain({}, as_openpi(infer_libero)) as server:
        on_robot = make_policy(shown("libero.yaml", server.url, tmp_path), GOOGLE_ROBOT)
        on_robot.reset(["close the drawer", "open the drawer"], seeds=[0, 1])
        moved = [on_robot.act(FRAMES, BOTH) for _ in range(6)]
        on_robot.close()
    hand = GOOGLE_ROBOT.slices["world_vector"]
    padded = FRAMES.mean((1, 2, 3)) / 255 * 179 / 224  # 256 x 320 becomes 179 x 224
    expected = np.stack([0.05 * padded, np.zeros(2), np.zeros(2)], 1)  # 0.05 m for 1; all else is 0
    assert moved[0][:, hand] == pytest.approx(expected, abs=1e-4)
    prompts = [[request["prompt"] for request in requests] for requests in server.episodes]
    assert prompts == [  # one answer for five steps, after the probe
        ["do something", "close the drawer", "close the drawer"],
        ["open the drawer", "open the drawer"],
    ]


def test_the_droid_configuration_is_understood_but_gives_joint_velocities(tmp_path: Path) -> None:
    with plain({}, as_openpi(infer_droid)) as server:
        path = shown("droid.yaml", server.url, tmp_path)
        policy = load_policy(policy_config(path), GOOGLE_ROBOT)
        policy.reset(["close the drawer"] * 2, seeds=[0, 1])
        found = policy.act(np.zeros((2, 224, 224, 3), np.uint8), BOTH).actions
        policy.close()
        assert found[1] == pytest.approx(np.tile(np.linspace(-1, 1, 8), (15, 1)))
        with pytest.raises(ValueError, match=r"found 'droid8'; its \['joint_velocity'\] have no"):
            make_policy(path, GOOGLE_ROBOT)


@pytest.mark.parametrize(
    ("name", "infer", "missing"),
    [
        ("libero.yaml", infer_libero, "observation/wrist_image"),
        ("libero.yaml", infer_libero, "observation/state"),
        ("droid.yaml", infer_droid, "observation/gripper_position"),
        ("droid.yaml", infer_droid, "observation/joint_position"),
        ("droid.yaml", infer_droid, "observation/wrist_image_left"),
        ("droid.yaml", infer_droid, "observation/exterior_image_1_left"),
    ],
)
def test_an_input_that_is_not_declared_is_named_before_any_rollout(
    tmp_path: Path, name: str, infer: Infer, missing: str
) -> None:
    expected = f"reports: KeyError: '{missing}'; it needs {missing} .* `inputs: {{{missing}: "
    with plain({}, as_openpi(infer)) as server:
        path = shown(name, server.url, tmp_path, without=missing)
        with pytest.raises(ValueError, match=expected):
            make_policy(path, GOOGLE_ROBOT)
        assert len(server.episodes) == 1


def test_a_probe_is_no_part_of_an_episode() -> None:
    with plain({}, as_openpi(infer_libero)) as server:
        policy = connect(server.url, RemoteConfig(layout="oxe7", chunk=10), {"other": np.zeros(3)})
        with pytest.raises(ValueError, match="observation/wrist_image"):
            policy.probe()
        with pytest.raises(ValueError, match="in 0 slots"):  # nothing has begun
            policy.act(FRAMES, BOTH)
        policy.close()
    (request,) = server.episodes[0]
    assert not request["observation/image"].any()
    assert request["observation/image"].shape == (224, 224, 3)
    assert request["other"].tolist() == [0, 0, 0]


def test_an_episode_must_begin_after_a_probe() -> None:
    with plain({}, as_openpi(lambda request: np.zeros((2, 7)))) as server:
        policy = connect(server.url, RemoteConfig(layout="oxe7", chunk=2))
        policy.probe()
        with pytest.raises(ValueError, match="in 0 slots"):
            policy.act(FRAMES[:1], BOTH[:1])
        policy.close()


def test_what_is_reported_of_a_black_frame_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    def infer(request: Mapping[str, Any]) -> np.ndarray:
        if not request["observation/image"].any():
            raise ValueError("too dark")
        return np.zeros((2, 7))

    with plain({}, as_openpi(infer)) as server:
        policy = connect(server.url, RemoteConfig(layout="oxe7", chunk=2))
        policy.probe()
        assert "reports: ValueError: too dark" in caplog.records[-1].getMessage()
        policy.reset(["close the drawer"], seeds=[0])
        policy.act(FRAMES[:1], BOTH[:1])
        policy.close()


def test_a_probe_sees_answers_of_another_shape() -> None:
    with plain({}, as_openpi(lambda request: np.zeros((10, 8)))) as server:
        policy = connect(server.url, RemoteConfig(layout="oxe7", chunk=10))
        with pytest.raises(ValueError, match=r"\(10, 7\) .*found float64 \(10, 8\); .*'droid8': 8"):
            policy.probe()
        policy.close()


@pytest.mark.parametrize(("metadata", "probe"), [({}, False), ({"supports_reset": True}, True)])
def test_who_needs_no_probe_gets_none(metadata: dict[str, Any], probe: bool) -> None:
    with plain(metadata, as_openpi(infer_libero)) as server:
        policy = connect(server.url, RemoteConfig(layout="oxe7", chunk=10, probe=probe))
        policy.probe()
        policy.close()
    assert server.episodes == [[]]


def test_inputs_are_part_of_what_a_policy_is() -> None:
    prints = []
    for inputs in ({}, {"state": np.zeros(3)}, {"state": np.ones(3)}):
        with plain({"layout": "oxe7", "chunk": 2}, as_openpi(infer_libero)) as server:
            policy = connect(server.url, RemoteConfig(), inputs)
            policy.close()
        prints.append(policy.meta.fingerprint)
    assert len(set(prints)) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"image_key": "prompt"},
        {"image_key": "state"},
        {"prompt_key": ""},
        {"image_key": "__reset__"},
    ],
)
def test_names_in_a_request_must_differ(changes: dict[str, Any]) -> None:
    cfg = RemoteConfig(layout="oxe7", chunk=2, **changes)
    with pytest.raises(ValueError, match="expected different names for the frame, the instruction"):
        connect("ws://127.0.0.1:1", cfg, {"state": np.zeros(3)})


THEIRS = Path(__file__).with_name("openpi_side.py")


@pytest.mark.slow
def test_the_runtime_of_openpi_begins_episodes(
    openpi_python: str, network, table, caplog: pytest.LogCaptureFixture
) -> None:
    """Two episodes of the same frames, one connection: equal only if a reset is sent with them."""
    robot: RobotSpec = GOOGLE_ROBOT

    def make() -> Policy:
        return RT1Policy(network, robot, table, "tiny", fingerprint="abc")

    with serving(make) as url, caplog.at_level(logging.WARNING):
        ran = {
            how: subprocess.run(
                [openpi_python, str(THEIRS), "runtime", url, how],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout.splitlines()
            for how in ("reset", "connection", "silent")
        }
    for how in ("reset", "connection"):
        first, second = ran[how]
        assert first == second
    assert ran["silent"][0] == ran["reset"][0] != ran["silent"][1]
    warned = [record.getMessage() for record in caplog.records if "begins" in record.getMessage()]
    assert len(warned) == 3  # two connections of "connection", one of "silent"
