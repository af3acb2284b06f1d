import numpy as np
import torch

from configs.robots import STANDIN_SAWYER
from world_models.base import FrameNoise, first_unknown, join_states
from world_models.copy_last import CopyLast


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


def test_the_largest_seeds_are_told_apart():
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
    assert len(back) == 3 and back.history == 2
    assert torch.equal(back.frame, state.frame[[2, 0, 1]])
    assert torch.equal(back.actions[:, 1, -1], torch.tensor([0.02, 0, 0.01]))
    assert back.context.shape == (3, 0, 0, 0)


def test_the_first_action_is_unknown():
    actions = torch.arange(12.0).reshape(2, 3, 2)
    aligned = first_unknown(actions)
    assert torch.equal(aligned[:, 1:], actions) and aligned[:, 0].isnan().all()
