"""Strips and films of any recording."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from PIL import Image

from tests.evaluation.data.drawn import Drawn, draw_episodes
from v2w_gym.configs.robots import CSGO_PLAYER
from v2w_gym.evaluation.data.film import CURSOR, HELD, MOST_FRAMES, Trace, _reading
from v2w_gym.evaluation.data.pictures import LETTERS, _label, draw_pictures
from v2w_gym.evaluation.data.reading import read_facts
from v2w_gym.evaluation.data.summary import summarise
from v2w_gym.world_models.data.episode import Episode


def pictures_of(folder: Path, episodes: list[Episode], most: int = 6) -> list[np.ndarray]:
    """Write the pictures of episodes, and return the film's."""
    reading = read_facts(Drawn(episodes), 100)
    strip, film = draw_pictures(folder, reading.facts, summarise("drawn", reading), most)
    assert np.array(Image.open(strip)).std() > 20
    with av.open(str(film)) as container:
        return [each.to_ndarray(format="rgb24") for each in container.decode(video=0)]


def test_a_film_shows_every_frame_and_a_cursor_that_moves(tmp_path: Path) -> None:
    shown = pictures_of(tmp_path, draw_episodes(4, steps=8), most=2)
    assert len(shown) == 2 * (9 + HELD)
    right = [int(_cursor(each).argmax()) for each in shown[:8]]
    assert all(later > earlier for earlier, later in pairwise(right))
    assert _cursor(shown[8]).max() < 20  # no action at the last frame


def _cursor(picture: np.ndarray) -> np.ndarray:
    """Count the pixels of the cursor's colour in each column."""
    return (np.abs(picture.astype(int) - CURSOR).max(axis=2) < 60).sum(axis=0)


def test_recordings_without_actions_instruction_and_robot(tmp_path: Path) -> None:
    bare = [
        replace(each, actions=None, robot=None, instruction=None, rate=None)
        for each in draw_episodes(2, steps=5)
    ]
    assert len(pictures_of(tmp_path, bare)) == 2 * (6 + HELD)


def test_a_single_frame(tmp_path: Path) -> None:
    one = replace(draw_episodes(1, steps=2)[0], success=None)
    single = replace(one, frames=one.frames[:1], actions=one.actions[:0])
    assert len(pictures_of(tmp_path, [single])) == 1 + HELD


def test_frames_of_odd_shapes_and_actions_that_are_not_finite(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for size in ((1, 1), (2, 700), (90, 3)):
        frames = rng.integers(0, 255, (3, *size, 3), np.uint8)
        actions = np.array([[np.nan, 1e30, np.inf], [np.nan, -1e30, 0]], np.float32)
        episode = Episode("\u202eodd \x1b[31mname " * 30, frames, actions, instruction="x" * 3000)
        assert len(pictures_of(tmp_path, [replace(episode, rate=1000.0)])) == 3 + HELD


def test_a_long_episode_is_shown_in_strides(tmp_path: Path) -> None:
    shown = pictures_of(tmp_path, draw_episodes(1, steps=MOST_FRAMES))
    assert len(shown) == 61 + HELD


def test_a_player_with_51_values_and_odd_frame_sizes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (6, 75, 141, 3), np.uint8)
    actions = np.tile(CSGO_PLAYER.make_action(keys="w", mouse_x="-60"), (5, 1))
    episode = Episode("match", frames, actions, robot=CSGO_PLAYER.name, rate=16)
    other = replace(episode, id="smaller", frames=frames[:, :40])
    assert len(pictures_of(tmp_path, [episode, other])) == 2 * (6 + HELD)


def test_the_name_of_an_episode_ends_with_its_number() -> None:
    named = replace(draw_episodes(1, steps=2)[0], id="data-train.tfrecord-00000-of-01024__17")
    (facts,) = read_facts(Drawn([named]), 1).facts
    first = _label(facts).splitlines()[0]
    assert first.startswith("...") and first.endswith("-of-01024__17") and len(first) == LETTERS


def test_a_value_that_no_trace_shows_is_written_as_zero() -> None:
    values = np.array([[1e-10], [0.02], [-0.01], [np.inf], [np.nan]], np.float32)
    trace = Trace("x", values, (-0.05, 0.05), is_gripper=False, labels=())
    assert [_reading(trace, step) for step in range(3)] == ["0", "+0.02", "-0.01"]
