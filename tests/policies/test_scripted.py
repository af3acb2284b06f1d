from pathlib import Path

import numpy as np
import pytest

from v2w_gym.configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER
from v2w_gym.policies.scripted import random_policy, replay_policy, zero_policy
from v2w_gym.world_models.data.labelled import load_labelled

FRAME = np.zeros((1, 64, 64, 3), np.uint8)
ON = np.ones(1, bool)


def roll(policy, steps: int, seed: int = 0) -> np.ndarray:
    policy.reset(["close the drawer"], seeds=[seed])
    return np.concatenate([policy.act(FRAME, ON).actions[:, 0] for _ in range(steps)])


def test_zero_only_continues():
    assert roll(zero_policy(STANDIN_SAWYER), 2).tolist() == [[0] * 8 + [1] + [0] * 4] * 2


def test_random_moves_hand_and_gripper_over_their_whole_range_and_nothing_else():
    actions = roll(random_policy(STANDIN_SAWYER), 500)
    moving = [3, 10, 11, 12]
    assert np.allclose(actions[:, moving].min(0), STANDIN_SAWYER.low[moving], rtol=0.05)
    assert np.allclose(actions[:, moving].max(0), STANDIN_SAWYER.high[moving], rtol=0.05)
    assert np.abs(actions[:, moving].mean(0) / STANDIN_SAWYER.high[moving]).max() < 0.1
    rest = np.delete(actions, moving, axis=1)
    assert (rest == np.delete(STANDIN_SAWYER.make_action(), moving)).all()


def test_random_depends_on_seed_and_step():
    policy = random_policy(STANDIN_SAWYER)
    first, second = roll(policy, 2, seed=1)
    assert (first != second).any()
    assert (roll(policy, 1, seed=1)[0] == first).all()
    assert (roll(policy, 1, seed=2)[0] != first).any()


def test_replay_repeats_the_episode_and_then_rests(episodes: Path):
    path = episodes / "episode_1.npz"
    actions = roll(replay_policy(path, STANDIN_SAWYER), 5)
    assert (actions[:3] == load_labelled(path).actions).all()
    assert (actions[3:] == STANDIN_SAWYER.make_action()).all()


def test_replays_of_different_episodes_differ(episodes: Path):
    first, again, other = (
        replay_policy(episodes / f"episode_{number}.npz", STANDIN_SAWYER).meta.fingerprint
        for number in (0, 0, 1)
    )
    assert first == again != other


def test_replay_refuses_another_robots_episode(episodes: Path):
    with pytest.raises(ValueError, match="expected an episode of robot 'google_robot' in .*1.npz"):
        replay_policy(episodes / "episode_1.npz", GOOGLE_ROBOT)


def test_replay_repeats_what_vid2worlds_converter_wrote(tmp_path: Path):
    moved = [STANDIN_SAWYER.make_action(world_vector=(x, 0, 0)) for x in (0.02, 0.4, 0.01)]
    frames = np.zeros((3, 64, 64, 3), np.uint8)
    np.savez(tmp_path / "train_eps_00000000.npz", image=frames, action=moved)
    actions = roll(replay_policy(tmp_path / "train_eps_00000000.npz", STANDIN_SAWYER), 4)
    assert actions[:, 10].tolist() == [np.float32(0.02), np.float32(0.05), 0, 0]
