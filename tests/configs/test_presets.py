"""Presets: what each means for a checkpoint."""

from dataclasses import replace

import pytest

from v2w_gym.configs.sampler import PRESETS, SamplerConfig, preset_sampler

OWN = SamplerConfig(
    steps=25,
    eta=1.0,
    guidance_scale=1.7,
    guidance_rescale=0.2,
    history_noise_level=21,
    history="rolling",
)


@pytest.mark.parametrize("name", PRESETS)
def test_presets_for_published_weights_replace_everything(name):
    assert preset_sampler(name, OWN, "per_frame") == PRESETS[name]


def test_faithful_is_many_ddim_steps_with_the_checkpoints_own_eta():
    expected = replace(OWN, solver="ddim", steps=50, history="window")
    assert preset_sampler("faithful", OWN, "per_frame") == expected


def test_faithful_of_converted_weights_is_clean():
    assert preset_sampler("faithful", PRESETS["clean"], "pooled") == PRESETS["clean"]


def test_standard_takes_few_steps_and_draft_fewer():
    expected = replace(OWN, solver="unipc", steps=12, eta=0.0, history="window")
    assert preset_sampler("standard", OWN, "per_frame") == expected
    draft = replace(expected, steps=8)
    assert preset_sampler("draft", OWN, "per_frame") == replace(draft, history="rolling")
    assert preset_sampler("draft", OWN, "pooled") == replace(draft, history="frozen")


@pytest.mark.parametrize(("steps", "found"), [(2, (12, 2)), (10, (12, 8))])
def test_a_draft_takes_no_more_steps_than_the_checkpoint_asks_for(steps, found):
    own = replace(OWN, steps=steps)
    names = "standard", "draft"
    assert tuple(preset_sampler(name, own, "per_frame").steps for name in names) == found


def test_an_unknown_preset_lists_all_five():
    names = r"\['clean', 'draft', 'faithful', 'reference', 'standard'\]"
    with pytest.raises(ValueError, match=f"preset to be one of {names}, found 'standart'.*'stand"):
        preset_sampler("standart", OWN, "per_frame")
