"""Choice of starts: filters, draws and frame numbers that are the same on every machine.

The expected draws are sha256 sums of texts such as "0/train_eps_00000004", made with `sha256sum`.
"""

import pytest

from v2w_gym.world_models.data.starts.choosing import (
    Filters,
    check_some,
    choose_places,
    choose_step,
    draw_order,
    to_pattern,
)
from v2w_gym.world_models.data.starts.places import Facts, Place

SAID = ["open top drawer", "close top drawer", "pick coke can", None]
EPISODES = [Facts(n, f"train_eps_{n:08d}", 10 + n, SAID[n % 4]) for n in range(12)]


def chosen(*places: Place) -> list[int]:
    return [place.episode.number for place in places]


def test_filters_accept_by_instruction_and_length() -> None:
    filters = Filters(to_pattern("(open|close) .* drawer"), min_frames=14)
    assert [e.number for e in EPISODES if filters.accept(e)] == [4, 5, 8, 9]
    assert all(map(Filters().accept, EPISODES))


def test_nothing_accepted_tells_what_there_is() -> None:
    filters = Filters(to_pattern("drawr"), 3)
    with pytest.raises(ValueError) as caught:
        check_some([], EPISODES, filters)
    assert str(caught.value) == (
        "expected episodes of at least 3 frames whose instruction matches 'drawr', found none "
        "among 12 of 10 to 21 frames with the instructions 'open top drawer' (3), 'close "
        "top drawer' (3), 'pick coke can' (3)"
    )
    with pytest.raises(ValueError, match="among 1 of 3 frames without instructions"):
        check_some([], [Facts(0, "a", 3)], filters)


def test_a_wrong_expression_is_refused() -> None:
    with pytest.raises(ValueError, match=r"a regular expression, found '\(': missing \)"):
        to_pattern("(")


def test_a_draw_is_the_same_on_every_machine() -> None:
    names = [f"train_eps_{n:08d}" for n in range(12)]
    drawn = draw_order(names, seed=0)
    assert [names.index(name) for name in drawn] == [10, 0, 11, 9, 4, 2, 7, 6, 3, 1, 5, 8]
    assert drawn == draw_order(names[::-1], seed=0) != draw_order(names, seed=1)


def test_fewer_are_drawn_first() -> None:
    ten = choose_places(EPISODES, "random", 10, 3, "google_robot")
    assert choose_places(EPISODES, "random", 4, 3, "google_robot") == ten[:4]
    assert chosen(*choose_places(EPISODES, "first", 3, 3, "google_robot")) == [0, 1, 2]


def test_more_than_there_are() -> None:
    with pytest.raises(ValueError, match="expected n of at most 12, .* found n=13"):
        choose_places(EPISODES, "first", 13, 0, "google_robot")


def test_episodes_with_one_id_are_refused() -> None:
    with pytest.raises(ValueError, match="found 'train_eps_00000003' 2 times"):
        choose_places([*EPISODES, Facts(12, EPISODES[3].id, 4)], "first", None, 0, "widowx")


def test_a_choice_that_is_published_for_other_robots() -> None:
    with pytest.raises(ValueError, match="robot for choose=published to be one of .*standin"):
        choose_places(EPISODES, "published", None, 0, "standin_sawyer")


@pytest.mark.parametrize(
    ("at", "context", "step"),
    [(None, 1, 0), (None, 4, 3), (5, 1, 5), (-1, 1, 11), (-12, 1, 0), (0.5, 1, 5), (1.0, 3, 11)],
)
def test_a_frame_is_a_number_a_number_from_the_end_or_a_share(
    at: int | float | None, context: int, step: int
) -> None:
    assert choose_step(Place(EPISODES[2]), at, 0, context) == step


def test_a_random_frame_depends_on_seed_and_id_alone() -> None:
    steps = [choose_step(Place(episode), "random", 0, 4) for episode in EPISODES]
    assert steps == [6, 3, 11, 9, 10, 12, 11, 4, 5, 3, 16, 4]
    moved = Facts(99, EPISODES[3].id, EPISODES[3].length)
    assert choose_step(Place(moved), "random", 0, 4) == 9
    assert {choose_step(Place(moved), "random", seed, 4) for seed in range(200)} == {*range(3, 13)}


def test_a_frame_that_the_choice_fixes() -> None:
    assert choose_step(Place(EPISODES[0], 7), None, 0, 4) == 7
    with pytest.raises(ValueError, match="expected no at, since the published .* found at=3"):
        choose_step(Place(EPISODES[0], 7), 3, 0, 4)


@pytest.mark.parametrize(
    ("at", "context", "message"),
    [
        (10, 1, r"a frame from 0 to 9 of episode 'train_eps_00000000' \(10 frames.* found at=10"),
        (-11, 1, r"found at=-11 \(frame -1\)"),
        (2, 4, r"a frame from 3 to 9 .* context_frames=4\), found at=2"),
        (None, 11, "at least 11 frames in every episode .* found 10 .* min_frames=11 leaves"),
    ],
)
def test_a_frame_that_there_is_not(at: int | None, context: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_step(Place(EPISODES[0]), at, 0, context)
