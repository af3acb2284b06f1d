"""The summary of recorded data, in which every number names its number of episodes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.evaluation.data.drawn import HAND, Drawn, draw_episodes, shifted, with_actions
from v2w_gym.evaluation.data.reading import choose_episodes, read_facts
from v2w_gym.evaluation.data.summary import Summary, summarise
from v2w_gym.evaluation.data.writing import to_json, to_text


def summary_of(source: Drawn, most: int = 200, robot: str = "") -> Summary:
    return summarise(source.name, read_facts(source, most), robot)


def test_episodes_are_spread_evenly_and_the_same_every_time() -> None:
    assert choose_episodes(3, 5) == [0, 1, 2]
    assert choose_episodes(101, 3) == [0, 50, 100]


def test_a_whole_source() -> None:
    text = to_text(summary_of(Drawn(draw_episodes(6))))
    for line in (
        "drawn: 6 episodes; all were read",
        "length       25 to 25 frames, median 25",
        "frame size   64 x 64 pixels",
        "rate         3 frames per second",
        "instruction  2 in 6 episodes:",
        '4 x "open the drawer"',
        "success      3 of 6 episodes (50%), at the last frame",
        "frames       150, none equals the one before, none is blank",
        "13 values, bounds of robot standin_sawyer, 6 episodes",
        "-0.05 to 0.05",
        "at rest      base_displacement_vector[0, 1]",
    ):
        assert line in text


def test_a_sample_says_so() -> None:
    text = to_text(summary_of(Drawn(draw_episodes(6)), most=2))
    assert "6 episodes; 2 of them, evenly spread, were read" in text
    assert "bounds of robot standin_sawyer, 2 episodes" in text


def test_damaged_episodes_are_listed_and_the_others_read() -> None:
    found = summary_of(Drawn(draw_episodes(6), damaged=(0, 3)))
    assert found.read == 4
    assert list(found.failed) == [0, 3]
    assert "unreadable   episode 3: expected a whole record 3, found a damaged one" in to_text(
        found
    )


def test_nothing_that_can_be_read_is_one_error() -> None:
    for source, reason in ((Drawn([]), "it is empty"), (Drawn(draw_episodes(1), (0,)), "record 0")):
        with pytest.raises(ValueError, match=f"none that can be read: .*{reason}"):
            summary_of(source)


def test_episodes_without_actions_still_have_frames() -> None:
    bare = [replace(each, actions=None, robot=None) for each in draw_episodes(3)]
    text = to_text(summary_of(Drawn(bare)))
    assert "actions      none" in text
    assert "alignment    cannot tell: no actions" in text


def test_stuck_and_blank_frames_are_counted_and_named() -> None:
    first, second = draw_episodes(2)
    frames = first.frames.copy()
    frames[5:11] = frames[5]
    black = second.frames.copy()
    black[3] = 0
    found = summary_of(Drawn([replace(first, frames=frames), replace(second, frames=black)]))
    assert (found.stuck.equal, found.stuck.longest) == (5, (5, "drawn-0"))
    assert found.stuck.frozen == ("drawn-0",)
    assert (found.stuck.blank, found.stuck.blank_episodes) == (1, ("drawn-1",))
    assert "check        the camera froze in 1 episode: drawn-0" in to_text(found)


def test_long_episodes_are_looked_at_in_parts() -> None:
    one = draw_episodes(1, steps=150)[0]
    found = summary_of(Drawn([one]))
    assert found.stuck.frames == 151
    parts = read_facts(Drawn([one]), 1).facts[0]
    assert len(parts.motion) == len(parts.stuck) == 150


def test_what_differs_from_the_robot_is_noted() -> None:
    episodes = [replace(each, rate=10.0) for each in draw_episodes(2)]
    notes = summary_of(Drawn(episodes), robot="google_robot").notes
    assert any("64 x 64 are not those of robot 'google_robot', 256 x 320" in note for note in notes)
    assert any("10 frames per second are not the rate" in note for note in notes)
    other = summary_of(Drawn(episodes), robot="widowx")
    assert "the data names robot standin_sawyer, which is not compared" in other.notes
    assert any("13 values that do not name the fields" in note for note in other.notes)


def test_settings_for_prepare() -> None:
    episodes = [
        with_actions(shifted(each, 1), HAND, lambda values: values * 1000)
        for each in draw_episodes(30)
    ]
    found = summary_of(Drawn(episodes))
    assert found.settings == {"action_shift": 1, "scale": {"world_vector": 0.001}}
    assert "settings     action_shift=1 scale='{world_vector: 0.001}'" in to_text(found)
    read = json.loads(to_json(found))
    assert read["settings"]["action_shift"] == 1
    assert read["alignment"]["verdict"].startswith("actions seem 1 step late")


def test_actions_of_another_width_are_left_out() -> None:
    one, two, three = draw_episodes(3)
    other = replace(three, actions=three.actions[:, :4], action_fields=(("action", 4),))
    found = summary_of(Drawn([one, two, other]))
    assert "episodes with other action fields, whose actions are left out: 1" in found.notes
    assert len(found.values) == 13


def test_every_number_is_finite_text(recwarn: pytest.WarningsRecorder) -> None:
    odd = [with_actions(each, HAND, lambda v: v * np.nan) for each in draw_episodes(2)]
    assert "not finite" in to_text(summary_of(Drawn(odd)))
    assert not recwarn.list
