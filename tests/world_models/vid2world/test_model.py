import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from v2w_gym.configs.model import GeometryConfig
from v2w_gym.configs.published import PUBLISHED, SIZES
from v2w_gym.configs.sampler import PRESETS
from v2w_gym.world_models.state import FrameNoise
from v2w_gym.world_models.vid2world.layers import Context
from v2w_gym.world_models.vid2world.model import Vid2World, load_vid2world


def step_once(model):
    frames = np.random.default_rng(0).integers(0, 256, (1, 1, 64, 64, 3), np.uint8)
    action = model.robot.make_action(world_vector=0.03)[None]
    noise = FrameNoise((0,), (0,), (1,))
    state = model.start(frames, np.zeros((1, 0, 13), np.float32), noise.earlier(1))
    return model.step(state, action, noise)


def test_actions_are_brought_to_unit_range(tiny_model):
    action = tiny_model.robot.make_action(world_vector=0.05, gripper_closedness_action=-0.5)
    unit = tiny_model.normalised(torch.from_numpy(action)).tolist()
    #       base   rotation gripper wrist    terminate: continue  hand
    assert unit == pytest.approx([0, 0, 0, -0.5, 0, 0, 0, -1, 1, -1, 1, 1, 1], abs=1e-6)


def test_raw_fields_stay_in_the_units_of_the_robot(tiny_config, make_model):
    raw = make_model(replace(tiny_config, raw_fields=("world_vector",)))
    action = raw.robot.make_action(world_vector=0.05, gripper_closedness_action=-0.5)
    unit = raw.normalised(torch.from_numpy(action)).tolist()
    assert unit[3] == -0.5 and unit[10:] == pytest.approx([0.05] * 3)


def test_an_unknown_action_is_a_dropped_one(tiny_model):
    actions = torch.zeros(1, 2, 13)
    missing = actions.clone()
    missing[:, 0] = float("nan")
    condition, mask = torch.zeros(1, 4, 8, 8), torch.ones(1, 2, dtype=torch.bool)
    conditioning = tiny_model.conditioning(condition, missing, mask)
    assert conditioning.action_mask.tolist() == [[False, True]]
    assert conditioning.actions.isfinite().all()


def test_first_action_zeros_conditions_the_first_frame_on_zeros(tiny_config, make_model):
    model = make_model(replace(tiny_config, first_action="zeros"))
    actions = torch.full((1, 3, 13), 0.01)
    condition, mask = torch.zeros(1, 4, 8, 8), torch.ones(1, 3, dtype=torch.bool)
    conditioning = model.conditioning(condition, actions, mask)
    assert (
        conditioning.actions[0, 0].abs().max() == 0 and conditioning.actions[0, 1:].abs().min() > 0
    )
    assert conditioning.action_mask.all()
    actions[:, 0] = float("nan")
    assert model.conditioning(condition, actions, mask).action_mask.all()


def test_the_conditioning_frame_is_the_start_or_the_oldest(tiny_config, make_model):
    for which in ("start", "oldest"):
        model = make_model(replace(tiny_config, condition_frame=which))
        states = [step_once(model)]
        for frame in range(2, 6):
            action = model.robot.make_action()[None]
            states.append(model.step(states[-1], action, FrameNoise((0,), (0,), (frame,))))
        assert torch.equal(states[1].condition, states[0].condition)  # one more frame fits
        slid = states[4].condition
        assert torch.equal(slid, states[0].condition) == (which == "start")
        assert which == "start" or torch.equal(slid, states[4].latents[:, 1])


def test_a_sampler_can_be_changed_without_copying_weights(tiny_model):
    other = tiny_model.with_sampler(replace(tiny_model.cfg.sampler, steps=1))
    assert (other.cfg.sampler.steps, tiny_model.cfg.sampler.steps) == (1, 2)
    assert other.unet is tiny_model.unet
    assert not torch.equal(step_once(other).latents, step_once(tiny_model).latents)


def test_a_sampler_for_published_checkpoints_is_refused_where_it_makes_no_sense(tiny_model):
    with pytest.raises(ValueError, match="expected sample_latents=false"):
        step_once(tiny_model.with_sampler(PRESETS["reference"]))


def test_clips_are_imagined_at_once_and_each_alone(tiny_model):
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    actions = np.stack([[tiny_model.robot.make_action(world_vector=x)] * 3 for x in (0, 0.03)])
    clips = tiny_model.imagine_clip(frames, actions, FrameNoise((0, 1), (0, 0), (3, 3)))
    alone = tiny_model.imagine_clip(frames[1:], actions[1:], FrameNoise((1,), (0,), (3,)))
    assert clips.shape == (2, 4, 64, 64, 3) and clips.dtype == np.uint8
    assert np.abs(clips[1:].astype(int) - alone).max() <= 1


def test_every_action_of_a_clip_matters(tiny_model):
    frames = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    actions = np.stack([tiny_model.robot.make_action()] * 3)[None]
    changed = actions.copy()
    changed[:, 1] = tiny_model.robot.make_action(world_vector=0.05)
    noise = FrameNoise((0,), (0,), (3,))
    one, two = (tiny_model.imagine_clip(frames, a, noise) for a in (actions, changed))
    moved = (one != two).any((0, 2, 3, 4))
    assert moved.tolist() == [False, False, True, True]


def test_saved_and_loaded_models_agree(tiny_model, tmp_path):
    path = tmp_path / "model.safetensors"
    tiny_model.save(path, {"why": "test"})
    loaded = load_vid2world(path)
    assert loaded.cfg == tiny_model.cfg
    assert loaded.card["provenance"] == {"why": "test"}
    assert torch.equal(step_once(loaded).latents, step_once(tiny_model).latents)


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float64])
def test_another_precision_is_for_the_file_alone(tiny_model, tmp_path, stored):
    path = tmp_path / "model.safetensors"
    before = step_once(tiny_model).latents
    tiny_model.to(stored).save(path, {})
    loaded = load_vid2world(path)
    assert loaded.unet.conv_in.weight.dtype == torch.float32
    torch.testing.assert_close(step_once(loaded).latents, before, rtol=0.05, atol=0.05)


def test_truncated_weights_are_refused(tiny_model, tmp_path):
    path = tmp_path / "model.safetensors"
    tiny_model.save(path, {})
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated or from another training run"):
        load_vid2world(path)


def test_a_missing_weight_is_named(tiny_model, tmp_path):
    from v2w_gym.world_models.checkpoint import load_checkpoint, save_checkpoint

    path = tmp_path / "model.safetensors"
    tiny_model.save(path, {})
    tensors, card = load_checkpoint(path)
    del tensors["unet.conv_in.bias"]
    save_checkpoint(path, tensors, card)
    with pytest.raises(ValueError, match=r"unet\.conv_in\.bias"):
        load_vid2world(path)


@pytest.mark.parametrize(
    ("part", "settings", "message"),
    [
        (None, {"window": 10**9}, "expected window <= 4096"),
        ("unet", {"channels": -1}, r"unet\.channels >= 2"),
        ("unet", {"channels": 10**12}, r"unet\.channels <= 8192"),
        ("unet", {"blocks": 10**9}, r"unet\.blocks <= 64"),
        ("unet", {"channels": 8192}, r"expected unet\..* of shape .* there, found"),
        ("unet", {"context_channels": 6}, "since context is null"),
        ("unet", {"channels": "${window}"}, "expected plain settings under 'config'"),
        ("diffusion", {"noise_levels": 10**10}, r"diffusion\.noise_levels <= "),
        ("diffusion", {"noise_levels": 0}, r"diffusion\.noise_levels >= 2"),
        ("diffusion", {"beta_start": 10**400}, "expected plain settings under 'config'"),
        ("sampler", {"steps": 0}, r"expected sampler\.steps >= 1"),
        ("sampler", None, r"model\.json"),
    ],
)
def test_a_card_whose_settings_mean_nothing_is_refused(
    tiny_model, tmp_path, part, settings, message
):
    path = tmp_path / "model.safetensors"
    tiny_model.save(path, {})
    card = json.loads(path.with_suffix(".json").read_text())
    config = card["config"]
    if part is None:
        config.update(settings)
    else:
        config[part] = settings and {**config[part], **settings}
    path.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=message) as raised:
        load_vid2world(path)
    assert "model." in str(raised.value) and str(raised.value).isprintable()


def test_weights_that_overflow_half_precision_are_not_written(tiny_model, tmp_path):
    path = tmp_path / "model.safetensors"
    tiny_model.unet.conv_in.bias.data[0] = 70_000.0
    tiny_model.save(path, {})
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"infinite in 'unet\.conv_in\.bias'.*half precision"):
        tiny_model.half().save(path, {})
    assert path.read_bytes() == before


def test_another_kind_is_refused(tiny_model, tmp_path):
    path = tmp_path / "model.safetensors"
    tiny_model.save(path, {})
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "kind": "rt1"}))
    with pytest.raises(ValueError, match="expected a vid2world checkpoint.*found 'rt1'"):
        load_vid2world(path)


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found no model\.safetensors"):
        load_vid2world(tmp_path / "model.safetensors")


@pytest.fixture
def published(make_model):
    """A model put together as the published ones are, small enough to step in no time."""
    published = PUBLISHED["google_robot"]
    tiny = SIZES["tiny"].of(published)
    return make_model(
        replace(
            tiny,
            window=3,
            geometry=GeometryConfig(resized=(32, 40), canvas=(32, 64)),
            unet=replace(tiny.unet, channels=32, channel_multipliers=(1, 2)),
            sampler=replace(PRESETS["clean"], steps=2),
        )
    )


def roll(model, steps):
    """Return the states of a rollout, the first before any step."""
    frames = np.random.default_rng(0).integers(0, 256, (1, 1, 256, 320, 3), np.uint8)
    noise = FrameNoise((0,), (0,), (0,))
    states = [model.start(frames, np.zeros((1, 0, 13), np.float32), noise)]
    for frame in range(1, steps + 1):
        action = model.robot.make_action(world_vector=0.1)[None]
        states.append(model.step(states[-1], action, FrameNoise((0,), (0,), (frame,))))
    return states


def assert_reads(model, state, branch, picture):
    """The first cross-attention of a branch reads CLIP's view of a picture."""
    text = model.context.text[None]
    keys = model.unet.context_keys(Context(text, model.context(picture)))[0]
    torch.testing.assert_close(state.context[0].image_value[:, branch], keys.image_value)


def test_both_branches_read_the_same_tokens_in_the_clean_preset_alone(published):
    (clean,) = roll(published, 0)
    (reference,) = roll(published.with_sampler(PRESETS["reference"]), 0)
    for own, shared in zip(reference.context, clean.context, strict=True):
        assert shared.image_key.shape[1] == 1 and own.image_key.shape[1] == 2
        torch.testing.assert_close(own.image_key[:, 0], shared.image_key[:, 0])
        assert not torch.allclose(own.image_key[:, 1], own.image_key[:, 0])
        assert torch.equal(own.text_key[:, 1], own.text_key[:, 0])


def test_the_reference_preset_draws_the_first_latents(published):
    clean, reference = (
        roll(published.with_sampler(PRESETS[name]), 0)[0].latents for name in ("clean", "reference")
    )
    again = roll(published.with_sampler(PRESETS["reference"]), 0)[0].latents
    assert torch.equal(reference, again) and not torch.equal(clean, reference)


def test_a_sliding_window_is_read_by_its_oldest_frame(published):
    before, after = roll(published, 3)[-2:]
    assert before.lengths == after.lengths == published.window
    assert torch.equal(after.condition, before.latents[:, 1])
    assert torch.equal(after.latents[:, :2], before.latents[:, 1:])
    picture = published.autoencoder.decode(before.latents[:, 1]).clamp(-1, 1)
    assert_reads(published, after, 0, picture)


def test_a_window_that_is_encoded_again_still_remembers_the_latents_it_drew(published):
    sampler = replace(PRESETS["reference"], steps=2)
    before, after = roll(published.with_sampler(sampler), 3)[-2:]
    assert torch.equal(after.latents[:, :2], before.latents[:, 1:])
    assert not torch.equal(after.condition, before.latents[:, 1])
    picture = published.autoencoder.decode(before.latents[:, 1]).clamp(-1, 1)
    assert_reads(published, after, 0, picture)
    assert_reads(published, after, 1, published.autoencoder.decode(after.condition))


def test_a_frame_that_is_encoded_again_has_its_own_draw(published):
    """Frame 1 is the oldest of the window from which frame 3 is drawn, and frame 2 the newest."""
    model = published.with_sampler(replace(PRESETS["reference"], steps=2))
    before, after = roll(model, 3)[-2:]
    kept = before.latents[:, 1:]
    pictures = model.decode(kept.flatten(0, 1)).unflatten(0, kept.shape[:2])
    again = model.encode(pictures, FrameNoise((0,), (0,), (2,)))
    torch.testing.assert_close(after.condition, again[:, 0])
    other = model.encode(pictures, FrameNoise((0,), (0,), (3,)))
    assert not torch.allclose(after.condition, other[:, 0])


def counted(run, frames):
    def counting(noisy, *rest):
        frames.append(noisy.shape[1])
        return run(noisy, *rest)

    return counting


def test_a_smaller_window_forgets_more(published, monkeypatch):
    looking = []
    smaller = published.with_window(2, 1)
    monkeypatch.setattr(smaller.unet, "_run", counted(smaller.unet._run, looking))
    state = roll(smaller, 3)[-1]
    assert set(looking) == {2}
    action, noise = published.robot.make_action()[None], FrameNoise((0,), (0,), (4,))
    with pytest.raises(ValueError, match="a window of 3 .* found 2"):
        published.step(state, action, noise)


def test_the_two_branches_reach_the_network_in_this_order(published, monkeypatch):
    model = published.with_sampler(replace(PRESETS["reference"], steps=2))
    calls = []
    condition = Vid2World.conditioning
    monkeypatch.setattr(
        Vid2World, "conditioning", lambda *given: calls.append(given) or condition(*given)
    )
    start = roll(model, 1)[0]
    _, _, actions, mask, context = calls[0]
    assert mask.tolist() == [[True, True], [True, False]]
    both = start.context[0].image_key  # (1, 2, M, C)
    assert torch.equal(context[0].image_key, torch.cat([both[:, 0], both[:, 1]]))
    assert torch.equal(actions[0].nan_to_num(), actions[1].nan_to_num())


def test_the_agents_frame_has_its_own_size_again(published):
    assert published.render(roll(published, 1)[1]).shape == (1, 256, 320, 3)
