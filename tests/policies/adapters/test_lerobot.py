"""LeRobot's kind of policy, by classes written to the interface of its `PreTrainedPolicy`.

LeRobot itself needs another environment: the slow test at the end runs its ACT and its diffusion
policy, with random weights, where V2W_LEROBOT_PYTHON names a Python that has it.
"""

import os
import subprocess
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.servers import serving
from v2w_gym.configs.policies import LeRobotConfig
from v2w_gym.configs.robots import GOOGLE_ROBOT
from v2w_gym.policies.adapters.lerobot import fingerprint, lerobot_maker
from v2w_gym.policies.base import Policy
from v2w_gym.policies.conformance import PolicyConformance, roll
from v2w_gym.policies.remote.client import connect
from v2w_gym.policies.robot_policy import RobotPolicy

FRAMES = np.random.default_rng(0).integers(0, 256, (6, 2, 8, 10, 3), np.uint8)
INSTRUCTIONS = ["close the drawer", "open the drawer"]
WHOLE, SINGLE = LeRobotConfig("oxe7"), LeRobotConfig("oxe7", whole_chunks=False)


@dataclass(frozen=True)
class Feature:
    shape: tuple[int, ...]


@dataclass
class Config:
    image_features: dict[str, Feature] = field(
        default_factory=lambda: {"observation.image": Feature((3, 8, 10))}
    )
    robot_state_feature: Feature | None = None
    env_state_feature: Feature | None = None
    n_obs_steps: int = 1
    chunk_size: int = 4
    n_action_steps: int = 2


@dataclass
class RealTime(Config):
    """Its `rtc_config` is on, which LeRobot's `select_action` does not allow."""

    rtc_config: Any = field(default_factory=lambda: SimpleNamespace(enabled=True))


REAL_TIME = RealTime()


class LikeSmolVLA(torch.nn.Module):
    """Chunks from one frame and noise; `select_action` hands out their first two actions."""

    name = "like_smolvla"
    width = 7

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.weight = torch.nn.Parameter(torch.linspace(-1, 1, 7))
        self.batches: list[dict[str, Any]] = []
        self.reset()

    def reset(self) -> None:
        self._queues: dict[str, deque[Any]] = {"action": deque(maxlen=2)}

    def predict_action_chunk(self, batch: dict[str, Any]) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        self.batches.append(batch)
        drawn = torch.randn(1, self.config.chunk_size, self.width)
        return self.weight[: self.width] * batch["observation.image"].mean() + drawn

    def select_action(self, batch: dict[str, Any]) -> torch.Tensor:
        queue = self._queues["action"]
        if not queue:
            queue.extend(self.predict_action_chunk(batch)[:, :2].transpose(0, 1))
        return queue.popleft()


class LikeDiffusion(LikeSmolVLA):
    """Looks at two frames, which only `select_action` lets it remember."""

    name = "like_diffusion"

    def reset(self) -> None:
        self._queues = {"action": deque(maxlen=2), "observation.images": deque(maxlen=2)}

    def select_action(self, batch: dict[str, Any]) -> torch.Tensor:
        self._queues["observation.images"].append(batch["observation.image"])
        mean = torch.stack(list(self._queues["observation.images"])).mean()
        return self.weight[None] * mean + torch.randn(1, 7)


class TestWholeChunks(PolicyConformance):
    @pytest.fixture
    def policy(self) -> Policy:
        return lerobot_maker(LikeSmolVLA(Config()), WHOLE)()


class TestSingleActions(PolicyConformance):
    @pytest.fixture
    def policy(self) -> Policy:
        return lerobot_maker(LikeDiffusion(Config(n_obs_steps=2)), SINGLE)()


def test_it_is_shown_what_lerobot_shows() -> None:
    batches: list[dict[str, Any]] = []

    def preprocess(batch: dict[str, Any]) -> dict[str, Any]:
        batches.append(batch)
        return batch

    theirs = LikeSmolVLA(Config())
    policy = lerobot_maker(theirs, WHOLE, preprocess, lambda action: 10 * action.cpu())()
    found = roll(policy, FRAMES, INSTRUCTIONS)
    assert found.shape == (6, 2, 4, 7)
    batch = batches[3]  # step 1, slot 1
    assert set(batch) == {"observation.image", "task"}
    assert batch["task"] == ["open the drawer"]
    image = batch["observation.image"]
    assert (image.shape, image.dtype) == ((1, 3, 8, 10), torch.float32)
    assert image[0, 2, 5, 7].item() == pytest.approx(FRAMES[1, 1, 5, 7, 2] / 255)
    plain = roll(lerobot_maker(theirs, WHOLE)(), FRAMES, INSTRUCTIONS)
    assert found == pytest.approx(10 * plain, rel=1e-6)


def test_noise_is_that_of_seed_and_step_and_nobody_elses_changes() -> None:
    make = lerobot_maker(LikeSmolVLA(Config()), WHOLE)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    same = np.broadcast_to(FRAMES[:1, :1], FRAMES.shape)
    found = roll(make(), same, [INSTRUCTIONS[0]] * 2)
    assert torch.rand(1) == expected
    assert len(np.unique(found[..., 0, 0])) == 12  # every step and seed draws its own


def test_slots_share_weights_and_nothing_else() -> None:
    theirs = LikeDiffusion(Config(n_obs_steps=2))
    policy = lerobot_maker(theirs, SINGLE)()
    before = roll(policy, FRAMES, INSTRUCTIONS)
    assert not theirs._queues["observation.images"]  # the original got no frame
    with torch.no_grad():
        theirs.weight += 1
    assert (roll(policy, FRAMES, INSTRUCTIONS) != before).all()


def test_chunks_are_lerobots_first_actions_one_by_one() -> None:
    theirs = LikeSmolVLA(Config())
    chunks = roll(lerobot_maker(theirs, WHOLE)(), FRAMES, INSTRUCTIONS)
    single = roll(lerobot_maker(theirs, SINGLE)(), FRAMES, INSTRUCTIONS)
    assert (single[::2, :, 0] == chunks[::2, :, 0]).all()
    assert (single[1::2, :, 0] == chunks[::2, :, 1]).all()


def test_what_a_world_model_does_not_have_is_refused() -> None:
    needs = Config(robot_state_feature=Feature((6,)))
    with pytest.raises(ValueError, match="found 'like_smolvla', which needs the state of robot"):
        lerobot_maker(LikeSmolVLA(needs), WHOLE)
    scene = Config(env_state_feature=Feature((6,)))
    with pytest.raises(ValueError, match="needs the state of robot or scene"):
        lerobot_maker(LikeSmolVLA(scene), replace(WHOLE, zero_state=True))


WRIST = "observation.images.wrist"


def with_wrist() -> Config:
    return Config(
        image_features={"observation.image": Feature((3, 8, 10)), WRIST: Feature((3, 4, 6))},
        robot_state_feature=Feature((2,)),
    )


def test_every_missing_input_is_named_with_the_line_to_write() -> None:
    with pytest.raises(ValueError) as error:
        lerobot_maker(LikeSmolVLA(with_wrist()), WHOLE)
    wanted = {WRIST: {"image": [4, 6]}, "observation.state": {"zeros": [2]}}
    assert f"{WRIST} (3, 4, 6), observation.state (2,)" in str(error.value)
    assert f"inputs={wanted}" in str(error.value)
    lerobot_maker(LikeSmolVLA(with_wrist()), replace(WHOLE, inputs=wanted))
    with pytest.raises(ValueError, match="other cameras, too: observation.images.wrist .3, 4, 6.;"):
        lerobot_maker(LikeSmolVLA(with_wrist()), replace(WHOLE, zero_state=True))


def test_constants_are_given_in_every_step() -> None:
    batches: list[dict[str, Any]] = []
    theirs = LikeSmolVLA(with_wrist())
    inputs = {WRIST: {"image": [4, 6]}, "observation.state": [0.5, -1]}
    cfg = replace(WHOLE, inputs=inputs)
    policy = lerobot_maker(theirs, cfg, lambda batch: batches.append(batch) or batch)()
    roll(policy, FRAMES[:2], INSTRUCTIONS)
    assert len(batches) == 4
    for batch in batches:
        assert batch["observation.state"].tolist() == [[0.5, -1]]
        assert torch.equal(batch[WRIST], torch.zeros(1, 3, 4, 6))
    others = lerobot_maker(theirs, replace(WHOLE, inputs=inputs | {"observation.state": [0, 0]}))()
    assert policy.meta.fingerprint != others.meta.fingerprint


def test_a_camera_may_be_left_out_and_empty_ones_are_not_needed() -> None:
    """Some policies mask what is missing; those that LeRobot calls empty they fill themselves."""
    batches: list[dict[str, Any]] = []
    images = with_wrist().image_features | {"observation.images.empty_camera_0": Feature((3, 4, 6))}
    theirs = LikeSmolVLA(Config(image_features=images))
    cfg = replace(WHOLE, inputs={WRIST: None})
    roll(
        lerobot_maker(theirs, cfg, lambda batch: batches.append(batch) or batch)(),
        FRAMES[:1],
        INSTRUCTIONS,
    )
    assert set(batches[0]) == {"observation.image", "task"}


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {WRIST: {"image": [6, 4]}},
            r"as \(3, 4, 6\), found \(3, 6, 4\); declare it as .*\[4, 6\]",
        ),
        ({WRIST: [0, 0]}, r"expected input 'observation.images.wrist' of policy 'like_smolvla'"),
        ({WRIST: "black"}, "to be a number, a list of numbers"),
        (
            {WRIST: None, "observation.image": 0},
            "other than 'observation.image', which every step sets",
        ),
        ({WRIST: None, "task": 0}, "expected inputs other than 'task'"),
    ],
)
def test_constants_that_do_not_fit_are_refused(inputs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lerobot_maker(LikeSmolVLA(with_wrist()), replace(WHOLE, zero_state=True, inputs=inputs))


def test_chunks_are_carried_out_as_lerobot_does() -> None:
    """Two actions of four: what `select_action` hands out, when the frame does not change."""
    still = np.broadcast_to(FRAMES[:1, :1], FRAMES[:, :1].shape)
    actions = []
    for cfg in (WHOLE, SINGLE):
        on_robot = RobotPolicy(lerobot_maker(LikeSmolVLA(Config()), cfg)(), GOOGLE_ROBOT)
        on_robot.reset(INSTRUCTIONS[:1], seeds=[0])
        actions.append([on_robot.act(frame, np.ones(1, bool))[0] for frame in still[:2]])
    assert (np.stack(actions[0]) == np.stack(actions[1])).all()
    meta = lerobot_maker(LikeSmolVLA(Config()), WHOLE)().meta
    assert (meta.chunk, meta.execution_horizon, meta.ensemble) == (4, 2, None)
    meta = lerobot_maker(LikeSmolVLA(Config()), SINGLE)().meta
    assert (meta.chunk, meta.execution_horizon, meta.ensemble) == (1, 0, None)


def test_a_temporal_ensemble_is_lerobots() -> None:
    config = Config(n_action_steps=1)
    config.temporal_ensemble_coeff = 0.01
    meta = lerobot_maker(LikeSmolVLA(config), WHOLE)().meta
    assert (meta.chunk, meta.execution_horizon, meta.ensemble) == (4, 0, 0.01)


def test_a_policy_that_gives_fewer_actions_than_its_chunk() -> None:
    theirs = LikeSmolVLA(Config())
    theirs.name = "pi0_fast"
    assert lerobot_maker(theirs, WHOLE)().meta.chunk == 2
    meta = lerobot_maker(LikeSmolVLA(Config()), replace(WHOLE, chunk=3))().meta
    assert (meta.chunk, meta.execution_horizon) == (3, 2)


def test_half_precision_becomes_single() -> None:
    class Half(LikeSmolVLA):
        def predict_action_chunk(self, batch: dict[str, Any]) -> torch.Tensor:
            return super().predict_action_chunk(batch).bfloat16()

    found = roll(lerobot_maker(Half(Config()), WHOLE)(), FRAMES, INSTRUCTIONS)
    single = roll(lerobot_maker(LikeSmolVLA(Config()), WHOLE)(), FRAMES, INSTRUCTIONS)
    assert found.dtype == np.float32
    assert found == pytest.approx(single, rel=0.01)


def test_missing_processors_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    config = Config()
    config.normalization_mapping = {"ACTION": "MEAN_STD"}
    lerobot_maker(LikeSmolVLA(config), WHOLE, lambda batch: batch)
    assert not caplog.text
    lerobot_maker(LikeSmolVLA(config), WHOLE)
    assert "'like_smolvla' normalises ACTION, but has no processors" in caplog.text


def test_zeros_are_given_only_with_zero_state() -> None:
    batches: list[dict[str, Any]] = []
    theirs = LikeSmolVLA(Config(robot_state_feature=Feature((6,))))
    make = lerobot_maker(
        theirs, replace(WHOLE, zero_state=True), lambda batch: batches.append(batch) or batch
    )
    roll(make(), FRAMES[:1], INSTRUCTIONS)
    assert torch.equal(batches[0]["observation.state"], torch.zeros(1, 6))


@pytest.mark.parametrize(
    ("policy", "cfg", "message"),
    [
        (
            LikeSmolVLA(Config()),
            replace(WHOLE, image_key="observation.imag"),
            r"image_key to be one of \['observation.image'\]",
        ),
        (LikeDiffusion(Config(n_obs_steps=2)), WHOLE, "set whole_chunks=False"),
        (LikeSmolVLA(Config(n_obs_steps=2)), WHOLE, "set whole_chunks=False"),
        (LikeSmolVLA(Config()), replace(SINGLE, chunk=4), "expected no chunk with"),
        (LikeSmolVLA(REAL_TIME), SINGLE, "set rtc_config.enabled=False"),
    ],
)
def test_settings_that_do_not_fit_are_refused(policy, cfg: LeRobotConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lerobot_maker(policy, cfg)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("layout", "oxe8", "did you mean 'oxe7'"),
        ("gripper", "closed", "set gripper: expected one of .*'closedness'"),
        ("rotation", "quat", "set rotation: expected one of"),
    ],
)
def test_what_actions_mean_is_checked_by_name(name: str, value: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LeRobotConfig(**{"layout": "oxe7", name: value})


def test_actions_of_another_size_are_refused() -> None:
    theirs = LikeSmolVLA(Config())
    theirs.width = 6
    policy = lerobot_maker(theirs, WHOLE)()
    policy.reset(INSTRUCTIONS, seeds=[0, 1])
    with pytest.raises(ValueError, match=r"shape \(4, 7\) .* found \(4, 6\); correct the layout"):
        policy.act(FRAMES[0], np.ones(2, bool))


def test_it_can_be_served_with_weights_shared() -> None:
    make = lerobot_maker(LikeDiffusion(Config(n_obs_steps=2)), SINGLE)
    with serving(make) as url:
        policy = connect(url)
        assert policy.meta.fingerprint == make().meta.fingerprint
        assert (policy.meta.image_size, policy.meta.history) == ((8, 10), 2)
        assert (roll(policy, FRAMES, INSTRUCTIONS) == roll(make(), FRAMES, INSTRUCTIONS)).all()
        policy.close()


def test_a_fingerprint_depends_on_names_shapes_and_values() -> None:
    weights = {"a": torch.zeros(2, 3), "b": torch.tensor(1.0)}
    others = [
        {"a": torch.zeros(3, 2), "b": torch.tensor(1.0)},
        {"a": torch.zeros(2, 3), "c": torch.tensor(1.0)},
        {"a": torch.zeros(2, 3), "b": torch.tensor(2.0)},
        {"a": torch.zeros(2, 3, dtype=torch.int32), "b": torch.tensor(1.0)},
    ]
    assert fingerprint(dict(reversed(weights.items()))) == fingerprint(weights)
    assert fingerprint(weights) not in [fingerprint(other) for other in others]
    fingerprint({"half": torch.zeros(2, 3, dtype=torch.bfloat16).T, "none": torch.zeros(0)})


@pytest.mark.slow
def test_policies_of_lerobot_itself() -> None:
    python = os.environ.get("V2W_LEROBOT_PYTHON")
    if not python:
        pytest.skip("V2W_LEROBOT_PYTHON names no Python with lerobot")
    script = Path(__file__).with_name("lerobot_side.py")
    ran = subprocess.run([python, str(script)], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[-1] == "done"
