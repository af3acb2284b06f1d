"""Waypoints worked by hand, and whole paths."""

import numpy as np
import pytest

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.policies.planner.controller import PLANS, Scene, close_drawer, open_drawer
from v2w_gym.policies.planner.policy import towards

SHUT, HALF = 0.0, 0.15


def scene(hand: tuple[float, float, float], opening: float, handle_x: float = 0.05) -> Scene:
    return Scene(np.array(hand), handle_x, opening)


@pytest.mark.parametrize(
    ("what", "hand", "opening", "target"),
    [
        ("far away: over the handle", (-0.1, 0.45, 0.10), SHUT, (0.05, 0.738, 0.17)),
        ("low in front of it: straight up", (-0.1, 0.65, 0.10), SHUT, (-0.1, 0.65, 0.17)),
        ("high but aside: across", (-0.1, 0.73, 0.14), SHUT, (0.05, 0.738, 0.17)),
        ("behind it and high: down", (0.06, 0.74, 0.15), SHUT, (0.05, 0.738, 0.07)),
        ("behind it and low: pull", (0.06, 0.74, 0.09), SHUT, (0.05, 0.69, 0.07)),
        ("half open, hooked: pull on", (0.05, 0.63, 0.07), 0.10, (0.05, 0.58, 0.07)),
        ("half open, slipped off: straight up", (0.05, 0.55, 0.07), 0.10, (0.05, 0.55, 0.17)),
        ("open: stay", (0.05, 0.58, 0.07), 0.15, (0.05, 0.58, 0.07)),
    ],
)
def test_opening(what: str, hand, opening: float, target):
    assert open_drawer(scene(hand, opening)) == pytest.approx(np.array(target))


@pytest.mark.parametrize(
    ("what", "hand", "opening", "target"),
    [
        ("aside: in front of the handle", (-0.1, 0.45, 0.09), HALF, (0.05, 0.45, 0.09)),
        ("aside and too far: back", (-0.1, 0.60, 0.09), HALF, (0.05, 0.52, 0.09)),
        ("high: down, no further ahead", (0.05, 0.50, 0.20), HALF, (0.05, 0.50, 0.09)),
        ("in front of it: push", (0.06, 0.50, 0.10), HALF, (0.05, 0.55, 0.09)),
        ("half shut: push on", (0.06, 0.60, 0.10), 0.05, (0.05, 0.65, 0.09)),
        ("shut: stay", (0.06, 0.68, 0.10), 0.01, (0.06, 0.68, 0.10)),
    ],
)
def test_closing(what: str, hand, opening: float, target):
    assert close_drawer(scene(hand, opening)) == pytest.approx(np.array(target))


def test_the_hand_moves_as_far_as_the_robot_allows_and_no_further():
    hand = np.array([0.0, 0.5, 0.1])
    action = towards(np.array([0.3, 0.49, -0.2]), hand, STANDIN_SAWYER)
    expected = STANDIN_SAWYER.make_action(world_vector=np.array([0.05, -0.01, -0.05], np.float32))
    assert action == pytest.approx(expected)
    assert (STANDIN_SAWYER.check_actions(action[None]) == action).all()


@pytest.mark.parametrize(
    ("task", "opening"), [("open the drawer", SHUT), ("close the drawer", HALF)]
)
def test_a_drawer_that_follows_the_hand_is_moved_within_the_horizon(task: str, opening: float):
    """A world without inertia: the handle is dragged when hooked and shoved when pushed."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        hand, handle_x = rng.uniform((-0.1, 0.44, 0.10), (0.1, 0.52, 0.24)), rng.uniform(-0.1, 0.1)
        drawer = opening
        for _ in range(16):
            now = Scene(hand, handle_x, drawer)
            move = towards(PLANS[task](now), hand, STANDIN_SAWYER)
            hand = hand + move[STANDIN_SAWYER.slices["world_vector"]]
            low, near = hand[2] < 0.13, abs(hand[0] - handle_x) < 0.04
            behind = hand[1] - now.handle_y
            if low and near and abs(behind) < 0.06:
                drawer -= behind if (behind < 0) == (task == "open the drawer") else 0
        assert (drawer > 0.12) if task == "open the drawer" else (drawer < 0.03)
