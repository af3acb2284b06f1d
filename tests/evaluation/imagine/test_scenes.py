"""Actions of a rollout: random ones, and errors of files without actions."""

import dataclasses

import numpy as np
import pytest

from v2w_gym.configs.evaluate import RolloutConfig
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.evaluation.imagine.scenes import draw_moves, write_script


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


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (np.float32(1), r"float32 \(\)"),
        (np.array(["a", "b"]), "<U1"),
        (np.ones((2, 13), np.complex64), "complex64"),
    ],
)
def test_a_file_that_holds_no_actions_is_refused(tmp_path, content, found):
    path = tmp_path / "actions.npy"
    np.save(path, content)
    with pytest.raises(
        ValueError, match=rf"expected numbers \(N, A\) in .*actions\.npy, found {found}"
    ):
        write_script(RolloutConfig(actions=str(path)), STANDIN_SAWYER, 1, 10)


def test_an_empty_file_of_actions_is_refused(tmp_path):
    path = tmp_path / "actions.npy"
    path.touch()
    with pytest.raises(ValueError, match=r"expected actions \(N, A\) in .*actions\.npy"):
        write_script(RolloutConfig(actions=str(path)), STANDIN_SAWYER, 1, 10)
