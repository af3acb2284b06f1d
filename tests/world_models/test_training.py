import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.configs.train import AutoencoderTrainConfig, DenoiserTrainConfig, TrainConfig
from v2w_gym.world_models import device
from v2w_gym.world_models.data.clips.episode_set import load_episode_set, sample_clips
from v2w_gym.world_models.data.labelled import LabelledEpisode, save_labelled
from v2w_gym.world_models.data.sources.opening import open_sources
from v2w_gym.world_models.data.starts.held_out import trained_on
from v2w_gym.world_models.diffusion import NoiseSchedule
from v2w_gym.world_models.frames import to_tensor
from v2w_gym.world_models.training import loss_weight, sample_noise_levels, train
from v2w_gym.world_models.vid2world.model import load_vid2world


@pytest.fixture
def episodes(tmp_path):
    """Three short episodes of seeded noise; frame t of episode e has the grey level 40 e + t."""
    folder = tmp_path / "episodes"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for e in range(3):
        levels = 40 * e + np.arange(7, dtype=np.uint8)
        actions = np.stack(
            [STANDIN_SAWYER.make_action(world_vector=rng.uniform(-0.05, 0.05)) for _ in range(6)]
        )
        save_labelled(
            folder / f"episode_{e}.npz",
            LabelledEpisode(
                frames=np.broadcast_to(levels[:, None, None, None], (7, 64, 64, 3)).copy(),
                actions=actions,
                expert_actions=actions,
                success=np.zeros(7, np.bool_),
                robot="standin_sawyer",
                task="close_drawer",
                instruction="close the drawer",
                behaviour="expert",
                seed=e,
            ),
        )
    return str(folder)


@pytest.fixture
def config(episodes, tmp_path, tiny_config):
    return TrainConfig(
        output=str(tmp_path / "run"),
        episodes=[episodes],
        model=tiny_config,
        autoencoder=AutoencoderTrainConfig(steps=3, batch_size=2, save_every=2),
        denoiser=DenoiserTrainConfig(steps=4, batch_size=2, clip_frames=4, save_every=2),
        threads=1,
    )


def weights(path):
    return load_vid2world(path).state_dict()


def assert_same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        assert torch.equal(one[name], two[name]), name


@pytest.mark.parametrize(
    "unet",
    [
        {"channel_multipliers": (1, 1, 1, 1, 1, 1)},
        {"groups": 3},
        {"context_channels": 8},
    ],
)
def test_settings_that_do_not_fit_are_noticed_before_anything_is_trained(config, tmp_path, unet):
    model = replace(config.model, unet=replace(config.model.unet, **unet))
    with pytest.raises(ValueError):
        train(replace(config, model=model))
    assert not (tmp_path / "run").exists()


def test_a_folder_of_other_settings_is_refused(config, episodes):
    train(config)
    with pytest.raises(ValueError, match="run holds another run: expected seed 0, found 1; choose"):
        train(replace(config, seed=1))
    steps = replace(config.autoencoder, steps=9)  # the denoiser has learned from its latents
    with pytest.raises(ValueError, match=r"expected autoencoder\.steps 3, found 9; choose"):
        train(replace(config, autoencoder=steps))
    (Path(episodes) / "episode_2.npz").unlink()
    with pytest.raises(ValueError, match="expected data '3 files .*', found '2 files"):
        train(config)


def test_a_run_goes_on_elsewhere(config, episodes, tmp_path, monkeypatch):
    trained = weights(train(config))
    (tmp_path / "run").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    moved = replace(
        config,
        output="moved",
        episodes=["episodes"],
        threads=2,
        denoiser=replace(config.denoiser, save_every=100),
    )
    checkpoint = train(moved)
    assert_same(weights(checkpoint), trained)
    provenance = load_vid2world(checkpoint).card["provenance"]
    assert "output" not in provenance["settings"]
    assert provenance["changes"] == []


def test_more_steps_are_taken_and_logged(config):
    falling = replace(config.denoiser, warmup=1, decay=0.5)
    train(replace(config, denoiser=falling))
    more = replace(config, denoiser=replace(falling, steps=6))
    card = load_vid2world(train(more)).card
    assert trained_on(["episode_2", "episode_9"], card) == ["episode_2"]
    provenance = card["provenance"]
    assert provenance["settings"]["denoiser"]["steps"] == 6
    assert provenance["changes"] == ["denoiser.steps was 4 until step 4, then 6"]


def test_settings_that_a_crash_left_empty_do_not_stop_a_run(config, tmp_path):
    (tmp_path / "run").mkdir()
    noted = tmp_path / "run" / "config.json"
    noted.touch()
    train(config)
    assert json.loads(noted.read_text())["seed"] == 0


def test_short_episodes_are_noticed_before_anything_is_trained(config, tmp_path):
    long = replace(config, denoiser=replace(config.denoiser, clip_frames=8))
    with pytest.raises(
        ValueError, match=r"at least 8 frames, found at most 7; lower denoiser\.clip"
    ):
        train(long)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("flags", "precision"), [("avx2", "float32"), ("amx_bf16", "bfloat16")])
def test_a_run_keeps_the_precision_of_its_first_processor(
    config, tmp_path, monkeypatch, flags, precision
):
    monkeypatch.setattr(device, "CPU_FLAGS", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text(f"flags\t: {flags}\n")
    trained = weights(train(config))
    (tmp_path / "cpuinfo").write_text("flags\t: avx2 avx512_bf16\n")
    assert_same(weights(train(config)), trained)
    noted = json.loads((tmp_path / "run" / "config.json").read_text())
    assert noted["precision"] == precision
    other = {"float32": "bfloat16", "bfloat16": "float32"}[precision]
    with pytest.raises(ValueError, match=f"expected precision '{precision}', found '{other}'"):
        train(replace(config, precision=other))


def test_the_sampler_may_change_after_training(config):
    before = train(config)
    trained = weights(before)
    sampler = replace(config.model.sampler, steps=7)
    checkpoint = train(replace(config, model=replace(config.model, sampler=sampler)))
    assert load_vid2world(checkpoint).cfg.sampler.steps == 7
    assert_same(weights(checkpoint), trained)


def test_training_learns(config):
    longer = replace(config.autoencoder, steps=150, batch_size=8, warmup=5, ema_decay=0.9)
    checkpoint = train(replace(config, autoencoder=longer))
    model = load_vid2world(checkpoint)
    frames = np.full((1, 64, 64, 3), 82, np.uint8)
    rebuilt = model.autoencoder.decode(model.autoencoder.encode(to_tensor(frames)))
    assert (rebuilt - (82 / 127.5 - 1)).abs().mean() < 0.1  # the frames span 0.69 of the range


def test_clips_are_windows_of_one_episode(episodes):
    data = load_episode_set(open_sources([episodes]), STANDIN_SAWYER)
    latents = torch.from_numpy(data.frames[:, :1, :1, :1].astype(np.float32))
    clips = sample_clips(data, latents, 64, 4, np.random.default_rng(0))
    values = clips.latents.flatten(1)
    assert torch.equal(values - values[:, :1], torch.arange(4.0).expand(64, 4))
    assert torch.equal(clips.condition.flatten() // 40, values[:, 0] // 40)
    assert (clips.condition.flatten() % 40 == 0).all()
    missing = clips.actions.isnan().all(-1)
    assert torch.equal(missing[:, 0], values[:, 0] % 40 == 0)
    assert not missing[:, 1:].any()


def test_too_short_episodes_are_refused(episodes):
    data = load_episode_set(open_sources([episodes]), STANDIN_SAWYER)
    with pytest.raises(ValueError, match="expected episodes of at least 9 frames, found at most 7"):
        sample_clips(data, torch.zeros(21, 1, 1, 1), 2, 9, np.random.default_rng(0))


def test_noise_levels_are_independent_and_of_the_set_density():
    cfg = DenoiserTrainConfig(low_noise_share=0.5, low_noise_level=9)
    levels = sample_noise_levels(1000, (2000, 4), cfg, np.random.default_rng(0))
    low = (levels <= 9).float()
    assert low.mean().item() == pytest.approx(0.5 + 0.5 * 0.01, abs=0.02)
    assert np.corrcoef(low[:, 0], low[:, 1])[0, 1] == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize(("bias", "share"), [(1.0, 0.3), (2.0, 0.3**0.5)])
def test_bias_favours_high_noise_levels(bias, share):
    cfg = DenoiserTrainConfig(low_noise_share=0.0, high_noise_bias=bias)
    levels = sample_noise_levels(1000, (2000, 4), cfg, np.random.default_rng(0))
    assert (levels >= 700).float().mean().item() == pytest.approx(share, abs=0.02)
    assert levels.min() >= 0 and levels.max() == 999


def test_loss_weight_caps_the_clean_end_only():
    schedule = NoiseSchedule(TrainConfig().model.diffusion)
    weight = loss_weight(schedule, torch.tensor([[999, 499, 19]]), 5.0)[0].tolist()
    assert weight == pytest.approx([1.0, 1.0, 5 * (1 - 0.981010)], abs=1e-4)
