"""Shifted actions are found, and nothing is found in noise."""

import functools
import os

import numpy as np
import pytest

from tests.evaluation.data.drawn import HAND, draw_episodes, look, shifted
from v2w_gym.evaluation.data.alignment import Alignment, find_alignment
from v2w_gym.evaluation.data.motion import find_motion
from v2w_gym.world_models.data.sources.rlds_records import open_rlds

DATA = os.environ.get("V2W_TEST_DATA", "")


@functools.cache
def recorded() -> tuple[list[np.ndarray], list[np.ndarray]]:
    facts = look(draw_episodes(30))
    return [each.motion for each in facts], [each.episode.actions for each in facts]


def find(late: int = 0) -> Alignment:
    episodes = [shifted(each, late) for each in draw_episodes(30)]
    return find_alignment([find_motion(e.frames) for e in episodes], [e.actions for e in episodes])


@pytest.mark.parametrize("late", range(-2, 3))
def test_the_shift_is_found_and_named_as_prepare_takes_it(late: int) -> None:
    found = find(late)
    assert found.shift == late
    words = "aligned" if late == 0 else f"action_shift={late} "
    assert words in str(found)


def test_the_response_is_that_of_the_robot() -> None:
    """Half of a displacement happens in the step of its action, half in the next."""
    response = dict(zip(*(getattr(find(), name) for name in ("lags", "response")), strict=True))
    assert response[0] == pytest.approx(1, abs=0.15)
    assert response[-1] == pytest.approx(1, abs=0.15)
    assert all(abs(response[lag]) < 0.2 for lag in (1, 2, 3))


def test_actions_of_other_episodes_say_nothing() -> None:
    motion, actions = recorded()
    found = find_alignment(motion, actions[1:] + actions[:1])
    assert found.shift is None
    assert str(found).startswith("cannot tell: actions explain no more of the motion")


def test_noise_says_nothing() -> None:
    motion, actions = recorded()
    rng = np.random.default_rng(0)
    noise = [rng.normal(size=each.shape).astype(np.float32) for each in actions]
    assert find_alignment(motion, noise).shift is None


@pytest.mark.parametrize(("episodes", "steps"), [(3, 24), (0, 24), (12, 7)])
def test_few_or_short_episodes_say_nothing(episodes: int, steps: int) -> None:
    motion, actions = recorded()
    found = find_alignment(
        [each[:steps] for each in motion[:episodes]], [each[:steps] for each in actions[:episodes]]
    )
    assert found.shift is None
    assert "too few steps" in str(found)


def test_a_robot_at_rest_says_nothing() -> None:
    motion, actions = recorded()
    found = find_alignment(motion, [np.zeros_like(each) for each in actions])
    assert found.reason == "nothing moves"
    still = find_alignment([np.zeros_like(each) for each in motion], actions)
    assert still.reason == "nothing moves"


def test_copies_of_one_episode_say_nothing() -> None:
    motion, actions = recorded()
    assert find_alignment(motion[:1] * 20, actions[:1] * 20).reason == "every episode is the same"


def test_the_same_data_gives_the_same_numbers() -> None:
    assert find_alignment(*recorded()) == find_alignment(*recorded())


def test_motion_follows_the_square() -> None:
    facts = look(draw_episodes(12))
    right = np.concatenate([each.motion[:, :16].mean(axis=1) for each in facts])
    command = np.concatenate([each.episode.actions[:, HAND][:, 0] for each in facts])
    before = np.concatenate([np.r_[0, each.episode.actions[:-1, HAND][:, 0]] for each in facts])
    assert np.corrcoef(right, command + before)[0, 1] > 0.9


@pytest.mark.skipif(not DATA, reason="V2W_TEST_DATA names no real recordings")
def test_real_recordings() -> None:
    """25 episodes of 10 blurred frames are too little; the arm's recorded state is not."""
    records = list(open_rlds(f"{DATA}/bridge_rlds/bridge_dataset/1.0.0", "train"))
    actions = [each.step("action")[:-1] for each in records]
    states = [np.diff(each.step("observation/state"), axis=0) for each in records]
    motion = [find_motion(each.frames("observation/image_0")) for each in records]
    for late, expected in ((-1, -1), (0, 0), (1, 1)):
        after, before = max(late, 0), max(-late, 0)
        stored = [each[before : 9 - after] for each in actions]
        seen = [each[after : 9 - before] for each in motion]
        moved = [each[after : 9 - before] for each in states]
        assert find_alignment(moved, stored).shift == expected
        assert find_alignment(seen, stored).shift is None
