"""SimplerEnv's kind of policy, by classes with the interface of its Octo and RT-1.

SimplerEnv is not on the package index and its policies need weights, so neither has been run here.
"""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.servers import serving
from v2w_gym.configs.robots import ACTION_LAYOUTS
from v2w_gym.policies.adapters.simpler import SimplerPolicy, to_action
from v2w_gym.policies.base import Policy, PolicyMeta
from v2w_gym.policies.conformance import PolicyConformance, roll
from v2w_gym.policies.remote.client import connect

OCTO = PolicyMeta("octo", "oxe7", control_hz=3, history=2)
RT1 = PolicyMeta("rt1", "fractal13", control_hz=3, history=6)


class LikeOcto:
    """Remembers two frames, and draws noise that `reset` does not draw again."""

    def __init__(self, init_rng: int = 0) -> None:
        self.rng = np.random.default_rng(init_rng)
        self.task_description = ""
        self.images: list[NDArray[np.uint8]] = []

    def reset(self, task_description: str) -> None:
        self.task_description = task_description
        self.images = []

    def step(
        self, image: NDArray[np.uint8], task_description: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        if task_description != self.task_description:
            self.reset(task_description)
        self.images = [*self.images, image][-2:]
        means = [float(image.mean()) for image in self.images]
        raw = {
            "world_vector": np.array([means[0], means[-1], self.rng.normal()]),
            "rotation_delta": np.array([len(task_description), 0.0, 0.25]),
            "open_gripper": np.array([0.75]),
        }
        return raw, {"world_vector": np.full(3, np.nan), "gripper": np.array([-1.0])}


class LikeRT1(LikeOcto):
    def step(
        self, image: NDArray[np.uint8], task_description: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        raw = {
            "world_vector": np.array([1, 2, 3], np.float32),
            "terminate_episode": np.array([0, 1, 0], np.int32),
            "rotation_delta": np.array([4, 5, 6], np.float32),
            "gripper_closedness_action": np.array([7], np.float32),
            "base_displacement_vertical_rotation": np.array([8], np.float32),
            "base_displacement_vector": np.array([9, 10], np.float32),
        }
        return raw, {}


def make_octo() -> Policy:
    return SimplerPolicy(LikeOcto, OCTO)


class TestSimpler(PolicyConformance):
    @pytest.fixture
    def policy(self) -> Policy:
        return make_octo()


def test_the_policys_own_action_is_taken_in_the_layouts_order() -> None:
    found = roll(make_octo(), np.full((2, 1, 8, 8, 3), [[[[[6]]]]], np.uint8), ["open"])
    assert found[1, 0, 0, [0, 1, 3, 4, 5, 6]].tolist() == [6, 6, 4, 0, 0.25, 0.75]
    rt1 = roll(SimplerPolicy(LikeRT1, RT1), np.zeros((1, 1, 8, 8, 3), np.uint8), ["open"])
    assert rt1[0, 0, 0].tolist() == [9, 10, 8, 7, 4, 5, 6, 0, 1, 0, 1, 2, 3]


def test_an_episode_draws_what_its_seed_says() -> None:
    frames = np.zeros((3, 1, 8, 8, 3), np.uint8)
    drawn = [roll(make_octo(), frames, ["open"], first_seed=seed)[:, 0, 0, 2] for seed in (5, 5, 6)]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).all()
    assert drawn[0] == pytest.approx(np.random.default_rng(5).normal(size=3))


def test_it_can_be_served() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 2, 8, 8, 3), np.uint8)
    with serving(make_octo) as url:
        policy = connect(url)
        assert (roll(policy, frames, ["a", "b"]) == roll(make_octo(), frames, ["a", "b"])).all()
        assert (policy.meta.layout, policy.meta.history) == ("oxe7", 2)
        policy.close()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            {},
            r"3 values of 'world_vector' for layout 'oxe7', found 0 in an action with \[\]",
        ),
        ({"world_vector": "up"}, "expected numbers as 'world_vector', found"),
        ({"world_vector": np.zeros(2)}, "expected 3 values of 'world_vector' .* found 2"),
        (
            {
                "world_vector": np.zeros(3),
                "rotation_delta": np.zeros(3),
                "gripper_closedness_action": np.zeros(1),
            },
            "expected 1 values of 'open_gripper' .* found 0 .* correct the layout",
        ),
    ],
)
def test_an_action_that_lacks_a_field_is_refused(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_action(raw, "oxe7")


def test_what_such_a_policy_does_not_give_is_refused() -> None:
    with pytest.raises(ValueError, match="layout of a SimplerEnv policy to be one of .*'recon3'"):
        SimplerPolicy(LikeOcto, PolicyMeta("x", "recon3"))
    with pytest.raises(ValueError, match="expected chunk=1"):
        SimplerPolicy(LikeOcto, PolicyMeta("x", "oxe7", chunk=4))
    assert ACTION_LAYOUTS["oxe7"].gripper == "absolute"  # 1 open, as "open_gripper" is
