"""The order of training clips: a function of lengths, seed and number, and of nothing else."""

import subprocess
import sys

import numpy as np
import pytest

from v2w_gym.world_models.data.clips.order import TrainingOrder, long_enough, validation_places

LENGTHS = np.array([9, 4, 30, 3, 5, 12])
LONG = [0, 1, 2, 4, 5]
IDS = [f"episode {i}" for i in range(len(LENGTHS))]


def places(order, numbers):
    return [order.place(number) for number in numbers]


def test_an_epoch_visits_every_long_episode_once_and_epochs_differ():
    order = TrainingOrder(LENGTHS, 4, seed=0)
    assert len(order) == 5
    epochs = [[p.episode for p in places(order, range(5 * e, 5 * e + 5))] for e in range(20)]
    assert all(sorted(epoch) == LONG for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 10


def test_starts_are_uniform_over_all_that_fit():
    order = TrainingOrder(np.array([8]), 4, seed=3)
    found = np.bincount([place.start for place in places(order, range(2000))])
    assert len(found) == 5  # 0 to 4
    assert abs(found - 400).max() < 80  # four standard deviations
    only = TrainingOrder(np.array([4]), 4, seed=3)
    assert {place.start for place in places(only, range(50))} == {0}


def test_a_place_depends_on_its_number_alone_and_on_the_seed():
    order = TrainingOrder(LENGTHS, 4, seed=0)
    later = places(order, range(100, 120))
    assert later == places(TrainingOrder(LENGTHS, 4, seed=0), reversed(range(100, 120)))[::-1]
    assert later != places(TrainingOrder(LENGTHS, 4, seed=1), range(100, 120))
    draws = {place.rng().random() for place in places(order, range(500))}
    assert len(draws) == 500


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_the_shares_of_all_ranks_are_the_batch_of_one(ranks):
    order = TrainingOrder(LENGTHS, 4, seed=0)
    for step in range(5):
        shares = [order.batch(step, 8, rank, ranks) for rank in range(ranks)]
        assert {len(share) for share in shares} == {8 // ranks}
        assert [p for share in shares for p in share] == places(
            order, range(8 * step, 8 * step + 8)
        )


def test_a_batch_that_ranks_cannot_share_is_refused():
    order = TrainingOrder(LENGTHS, 4, seed=0)
    with pytest.raises(ValueError, match="expected a batch that 4 .* found 10 clips; take 8"):
        order.batch(0, 10, 0, 4)
    with pytest.raises(ValueError, match="found 3 clips; take 4"):
        order.batch(0, 3, 0, 4)


def test_clips_longer_than_every_episode_are_refused():
    with pytest.raises(ValueError, match="at least 31 frames, found 6 of at most 30; lower clip_"):
        TrainingOrder(LENGTHS, 31, seed=0)
    with pytest.raises(ValueError, match="found 0 of at most 0"):
        long_enough(np.array([], np.int64), 1)


def test_validation_clips_are_fixed_and_one_of_an_episode():
    chosen = validation_places(LENGTHS, IDS, 4, 3)
    assert chosen == validation_places(LENGTHS, IDS, 4, 3)
    episodes = [place.episode for place in chosen]
    assert episodes == sorted(set(episodes)) and set(episodes) <= set(LONG)
    every = validation_places(LENGTHS, IDS, 4, 99)
    assert [place.episode for place in every] == LONG
    assert set(chosen) <= set(every)  # a start depends on the episode's name alone
    assert all(place.start + 4 <= LENGTHS[place.episode] for place in every)
    other = validation_places(LENGTHS, IDS, 4, 99, seed=1)
    assert [p.start for p in other] != [p.start for p in every]


def test_no_draw_depends_on_the_hash_of_a_process():
    code = (
        "import numpy as np\n"
        "from v2w_gym.world_models.data.clips.order import *\n"
        "lengths = np.array([9, 4, 30, 3, 5, 12])\n"
        "print(TrainingOrder(lengths, 4, 7).batch(3, 8))\n"
        "print(validation_places(lengths, list('abcdef'), 4, 4))"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": salt, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for salt in ("1", "2")
    ]
    assert found[0] == found[1] and found[0].count("ClipPlace") == 12


def test_a_large_data_set_needs_no_more_than_two_orders_of_its_episodes():
    lengths = np.full(87_000, 40)
    order = TrainingOrder(lengths, 16, seed=0)
    assert len({place.episode for place in places(order, range(0, 87_000, 87))}) == 1000
    assert order.place(10**12).episode < 87_000
