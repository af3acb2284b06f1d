"""The starts of the published evaluations."""

import random

import pytest

from v2w_gym.world_models.data.starts.choosing import choose_places
from v2w_gym.world_models.data.starts.places import Facts

HELD_OUT = [Facts(n, f"train_eps_{20 * n:08d}", 15 + n % 3) for n in range(4361)]


def test_rt1_episodes_are_those_of_the_published_draw() -> None:
    found = choose_places(HELD_OUT[::-1], "published", None, 0, "google_robot")
    random.seed(0)
    long = [f"train_eps_{20 * n:08d}" for n in range(4361) if n % 3]
    assert [place.episode.id for place in found] == random.sample(long, 1024)
    assert [place.episode.number for place in found[:5]] == [2366, 2584, 248, 1591, 3142]
    assert choose_places(HELD_OUT, "published", 9, 7, "google_robot") == found[:9]


def test_other_episodes_are_not_the_published_ones() -> None:
    with pytest.raises(ValueError, match=r"4,361 held-out .* found 4,360; .* ids=\[val_file_list"):
        choose_places(HELD_OUT[1:], "published", None, 0, "google_robot")


def test_the_published_csgo_starts() -> None:
    """A rollout begins with the fourth frame of a clip, which is the last that is given."""
    many = [Facts(n, f"1-200/hdf5_dm_july2021_{n}", 1000) for n in range(500)]
    found = choose_places(many, "published", 4, 0, "csgo_player")
    assert [place.step for place in found] == [102 + 3, 435 + 3, 860 + 3, 270 + 3]
    assert [place.episode.number for place in found] == [0, 1, 10, 100]


def test_the_published_recon_clips() -> None:
    clips = [Facts(n, f"{n:03d}_a_{n}", 20) for n in range(3)]
    found = choose_places(clips, "published", None, 0, "recon_jackal")
    assert [(place.episode.number, place.step) for place in found] == [(0, 3), (1, 3), (2, 3)]
    with pytest.raises(ValueError, match=r"clips of 20 frames, as in recon:time.pkl, .* found 21"):
        choose_places([*clips, Facts(3, "a", 21)], "published", None, 0, "recon_jackal")


def test_other_recordings_of_csgo_are_not_the_published_ones() -> None:
    with pytest.raises(ValueError, match="500 test files of CS:GO, .* found 4361"):
        choose_places(HELD_OUT, "published", None, 0, "csgo_player")
