from typing import NamedTuple

import torch
from v2w_gym.world_models.state import leaves, map_nested, refill


class Pair(NamedTuple):
    one: torch.Tensor
    many: tuple[torch.Tensor, ...]


def pair(*values):
    first, *rest = (torch.tensor(float(value)) for value in values)
    return Pair(first, tuple(rest))


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
