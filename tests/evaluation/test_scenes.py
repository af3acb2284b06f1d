"""What is drawn for a rollout; `test_imagination` covers what is read from files."""

import dataclasses

from configs.imagine import RolloutConfig
from configs.robots import STANDIN_SAWYER
from evaluation.scenes import draw_moves


def test_held_moves_are_drawn_once_per_hold_and_begin_the_same_however_long():
    cfg = RolloutConfig(hold=5, moves=["+X", "-Z"])
    long, short = draw_moves(cfg, STANDIN_SAWYER, 203), draw_moves(cfg, STANDIN_SAWYER, 12)
    assert (len(long), long[:12]) == (203, short)
    blocks = [long[i : i + 5] for i in range(0, 203, 5)]
    assert all(len(set(block)) == 1 for block in blocks)
    assert {block[0] for block in blocks} == {"+X", "-Z"}
    others = [dataclasses.replace(cfg, seed=1), dataclasses.replace(cfg, episode=1)]
    assert len({long, *(draw_moves(other, STANDIN_SAWYER, 203) for other in others)}) == 3
    everything = draw_moves(dataclasses.replace(cfg, moves=None), STANDIN_SAWYER, 500)
    assert set(everything) == set(STANDIN_SAWYER.moves)
