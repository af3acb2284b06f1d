from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.world_models.copy_last import CopyLast
from v2w_gym.world_models.state import (
    FrameNoise,
    begin_state,
    join_states,
    leaves,
    map_nested,
    refill,
    step_in_groups,
)


class Pair(NamedTuple):
    one: torch.Tensor
    many: tuple[torch.Tensor, ...]


def pair(*values):
    first, *rest = (torch.tensor(float(value)) for value in values)
    return Pair(first, tuple(rest))


def test_noise_of_a_rollout_does_not_depend_on_its_neighbours():
    alone = FrameNoise((7,), (3,), (5,)).normal(0, (4, 2, 2))
    among = FrameNoise((1, 7, 2), (9, 3, 3), (5, 5, 8)).normal(0, (4, 2, 2))
    assert torch.equal(among[1], alone[0])


def test_noise_differs_by_seed_episode_frame_and_draw():
    base = FrameNoise((0,), (0,), (0,)).normal(0, (1000,))
    others = [
        FrameNoise((1,), (0,), (0,)).normal(0, (1000,)),
        FrameNoise((0,), (1,), (0,)).normal(0, (1000,)),
        FrameNoise((0,), (0,), (1,)).normal(0, (1000,)),
        FrameNoise((0,), (0,), (0,)).normal(1, (1000,)),
    ]
    for other in others:
        assert abs(np.corrcoef(base[0], other[0])[0, 1]) < 0.1
    assert abs(base.mean().item()) < 0.1 and abs(base.std().item() - 1) < 0.1


def test_earlier_is_the_noise_of_the_earlier_frame():
    later = FrameNoise((4,), (2,), (9,))
    assert torch.equal(
        later.earlier(3).normal(1, (5,)), FrameNoise((4,), (2,), (6,)).normal(1, (5,))
    )


def test_the_largest_seeds_differ():
    seeds = (2**63 + 5, 2**63 + 900, 2**64 - 1)
    numbers = FrameNoise(seeds, (0,) * 3, (0,) * 3).normal(0, (4,))
    assert len({tuple(row.tolist()) for row in numbers}) == 3


def test_states_split_and_join():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 2, 64, 64, 3), np.uint8)
    actions = np.stack([STANDIN_SAWYER.make_action(world_vector=x) for x in (0, 0.01, 0.02)])
    noise = FrameNoise((0, 1, 2), (0, 0, 0), (1, 1, 1))
    state = CopyLast(STANDIN_SAWYER).start(frames, actions[:, None], noise)
    back = join_states([state.select([2]), state.select([0, 1])])
    assert len(back) == 3 and back.lengths.tolist() == [2, 2, 2]
    assert torch.equal(back.latents, state.latents[[2, 0, 1]])
    assert torch.equal(back.actions[:, -1, -1], torch.tensor([0.02, 0, 0.01]))
    assert state.select(range(3)) is state and join_states([state]) is state


def test_a_state_begins_with_room_for_its_window():
    latents, actions = torch.rand(2, 3, 1, 2, 2), torch.arange(8.0).reshape(2, 2, 2)
    state = begin_state(latents, actions, 5)
    assert torch.equal(state.latents[:, 2:], latents) and not state.latents[:, :2].any()
    assert torch.equal(state.actions[:, 3:], actions) and state.actions[:, :3].isnan().all()
    assert state.lengths.tolist() == [3, 3] and torch.equal(state.condition, latents[:, 0])


def test_parts_of_a_state_may_be_nested():
    state = begin_state(torch.rand(3, 1, 1, 2, 2), torch.empty(3, 0, 2), 2)
    row = torch.arange(3.0)
    state = replace(state, cache=Pair(row, (row + 10, row + 20)))
    joined = join_states([state.select([2]), state.select([0])])
    assert isinstance(joined.cache, Pair)
    assert [tensor.tolist() for tensor in joined.cache.many] == [[12, 10], [22, 20]]
    again = joined.with_tensors(joined.tensors())
    assert torch.equal(again.cache.one, joined.cache.one)
    assert state.nbytes == sum(tensor.nbytes for tensor in state.tensors())


def test_groups_go_their_own_way_and_come_back_in_order():
    state = begin_state(torch.arange(4.0).reshape(4, 1, 1, 1, 1), torch.empty(4, 0, 1), 1)
    calls = []

    def step(rows):
        calls.append(rows)
        return state.select(rows)

    assert torch.equal(step_in_groups(["a", "b", "a", "c"], step).latents, state.latents)
    assert calls == [[0, 2], [1], [3]]


def test_noise_is_selected_with_its_rollouts():
    noise = FrameNoise((1, 2, 3), (4, 5, 6), (7, 8, 9))
    assert noise.select([2, 0]) == FrameNoise((3, 1), (6, 4), (9, 7))


def test_leaves_come_from_left_to_right():
    assert [float(t) for t in leaves((pair(1, 2, 3), (), pair(4)))] == [1, 2, 3, 4]


def test_structure_and_names_are_kept():
    added = map_nested(torch.add, (pair(1, 2, 3),), (pair(10, 20, 30),))
    assert isinstance(added[0], Pair)
    assert added[0].one == 11 and [float(t) for t in added[0].many] == [22, 33]


def test_what_is_taken_apart_can_be_put_together():
    nested = (pair(1, 2), (pair(3),))
    again = refill(nested, iter([tensor + 1 for tensor in leaves(nested)]))
    assert [float(t) for t in leaves(again)] == [2, 3, 4]
    assert again[0].one == 2 and again[1][0].one == 4
