"""Presets: what each means for a checkpoint."""

from dataclasses import replace

import pytest

from v2w_gym.configs.model import (
    PRESETS,
    SamplerConfig,
    UNetConfig,
    WorldModelConfig,
    preset_sampler,
)

OWN = SamplerConfig(
    steps=25,
    eta=1.0,
    guidance_scale=1.7,
    guidance_rescale=0.2,
    history_noise_level=21,
    history="rolling",
)
MODEL = WorldModelConfig(sampler=OWN)
POOLED = replace(MODEL, unet=UNetConfig(temporal_norm="pooled"))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_for_published_weights_replace_everything(name):
    assert preset_sampler(name, MODEL) == PRESETS[name]


def test_faithful_is_many_ddim_steps_with_the_checkpoints_own_eta():
    expected = replace(OWN, solver="ddim", steps=50, history="window")
    assert preset_sampler("faithful", MODEL) == expected


def test_faithful_of_converted_weights_is_clean():
    published = replace(POOLED, sampler=PRESETS["clean"])
    assert preset_sampler("faithful", published) == PRESETS["clean"]


def test_standard_takes_few_steps_and_draft_fewer():
    expected = replace(OWN, solver="unipc", steps=12, eta=0.0, history="window")
    assert preset_sampler("standard", MODEL) == expected
    assert preset_sampler("draft", MODEL) == replace(expected, steps=8, history="rolling")
    assert preset_sampler("draft", POOLED) == replace(expected, steps=8, history="frozen")


@pytest.mark.parametrize(("steps", "found"), [(2, (12, 2)), (10, (12, 8))])
def test_a_draft_takes_no_more_steps_than_the_checkpoint_asks_for(steps, found):
    model = replace(MODEL, sampler=replace(OWN, steps=steps))
    assert tuple(preset_sampler(name, model).steps for name in ("standard", "draft")) == found


def test_an_unknown_preset_lists_all_five():
    names = r"\['clean', 'draft', 'faithful', 'reference', 'standard'\]"
    with pytest.raises(ValueError, match=f"preset to be one of {names}, found 'standart'.*'stand"):
        preset_sampler("standart", MODEL)
