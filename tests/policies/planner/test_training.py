"""Perception is learned, measured and saved."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.configs.train import TrainPlannerConfig
from v2w_gym.policies.planner.perception import PerceptionNetwork, to_pixels
from v2w_gym.policies.planner.policy import load_planner
from v2w_gym.policies.planner.training import augment, load_scenes, measure, train
from v2w_gym.world_models.checkpoint import load_checkpoint
from v2w_gym.world_models.data.labelled import LabelledEpisode, save_labelled


@pytest.fixture
def cfg(episodes: Path, tmp_path: Path) -> TrainPlannerConfig:
    return TrainPlannerConfig(
        output=str(tmp_path / "planner.safetensors"),
        episodes=[str(episodes)],
        held_out=[str(episodes)],
        channels=(8, 8, 8),
        steps=4,
        batch_size=16,
    )


def test_training_learns_where_things_are(cfg: TrainPlannerConfig):
    before, after = (
        train(replace(cfg, steps=steps))["held_out"]["mean_error_cm"] for steps in (1, 150)
    )
    assert after["handle_x"] < before["handle_x"] / 2
    assert after["hand_y"] < before["hand_y"] / 2


def test_what_is_measured_is_what_is_saved(cfg: TrainPlannerConfig):
    notes = train(cfg)
    policy = load_planner(Path(cfg.output), STANDIN_SAWYER)
    assert load_checkpoint(Path(cfg.output))[1]["held_out"] == notes["held_out"]
    assert measure(policy._network, *load_scenes(cfg.held_out, STANDIN_SAWYER)) == notes["held_out"]
    assert notes["held_out"]["frames"] == 400


def test_errors_are_in_centimetres(network: PerceptionNetwork):
    frames = np.random.default_rng(0).integers(0, 256, (300, 64, 64, 3), np.uint8)
    with torch.no_grad():
        truth = network(to_pixels(frames)).numpy()
    truth[:, 3] += 0.02
    measured = measure(network, frames, truth)
    assert measured["mean_error_cm"]["handle_x"] == pytest.approx(2.0)
    assert measured["error_95_percent_cm"]["handle_x"] == pytest.approx(2.0)
    assert measured["mean_error_cm"]["hand_z"] == pytest.approx(0.0, abs=1e-3)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(cfg: TrainPlannerConfig):
    def weights(seed: int) -> dict[str, torch.Tensor]:
        train(replace(cfg, seed=seed))
        return load_checkpoint(Path(cfg.output))[0]

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_an_interrupted_run_leaves_the_older_policy(
    cfg: TrainPlannerConfig, monkeypatch: pytest.MonkeyPatch
):
    train(cfg)
    before = Path(cfg.output).read_bytes()

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(replace(cfg, seed=1))
    assert Path(cfg.output).read_bytes() == before


def test_augmented_frames_stay_in_range_and_in_place():
    rng = np.random.default_rng(0)
    frames = torch.full((64, 3, 64, 64), -0.5)
    frames[:, :, 20:30, 40:50] = 0.5
    changed = augment(frames, rng)
    assert changed.abs().max() <= 1
    assert not torch.equal(changed, frames)
    smooth = torch.nn.functional.avg_pool2d(changed.mean(1), 5, 1, 2)
    peak = smooth.flatten(1).argmax(1)
    assert ((peak // 64 - 24.5).abs() <= 5).all()
    assert ((peak % 64 - 44.5).abs() <= 5).all()


def test_positions_are_read_in_their_order(
    make_episode: Callable[[int], LabelledEpisode], tmp_path: Path
):
    episode = make_episode(3)
    save_labelled(tmp_path / "episode_3.npz", episode)
    frames, positions = load_scenes([str(tmp_path)], STANDIN_SAWYER)
    assert (frames == episode.frames).all()
    state = episode.state
    expected = [*state["hand"][5], state["handle"][5, 0], state["opening"][5]]
    assert (positions[5] == expected).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"robot": "google_robot"}, "expected robot 'standin_sawyer'"),
        ({"state": {}}, "record the episodes again with `v2w collect`"),
    ],
)
def test_episodes_that_do_not_fit_are_refused(
    make_episode: Callable[[int], LabelledEpisode], tmp_path: Path, changes: dict, message: str
):
    save_labelled(tmp_path / "episode_0.npz", replace(make_episode(0), **changes))
    with pytest.raises(ValueError, match=message):
        load_scenes([str(tmp_path)], STANDIN_SAWYER)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "expected steps >= 1, found 0"),
        ({"learning_rate": float("nan")}, "cannot set learning_rate: expected a finite number"),
        ({"threads": 0}, "expected threads >= 1, found 0"),
        ({"channels": (8, 0)}, r"expected channels\[1\] >= 1, found 0"),
        ({"channels": ()}, "expected channels of at least 1"),
        ({"held_out": []}, "cannot set held_out: expected at least one entry"),
        ({"output": "planner.npz"}, "a file that ends in .safetensors"),
    ],
)
def test_settings_out_of_range_are_refused(cfg: TrainPlannerConfig, changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        train(replace(cfg, **changes))
