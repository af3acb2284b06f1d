"""World-model settings: flat in commands, nested in a file, keywords in code."""

from dataclasses import asdict, dataclass, field, fields

import pytest

from v2w_gym.configs.checks import FidelityConfig
from v2w_gym.configs.evaluate import ActionControlConfig, GateConfig, RankConfig, RolloutConfig
from v2w_gym.configs.loader import load_config
from v2w_gym.configs.sampler import PRESET_NAMES, SamplerConfig, preset_sampler
from v2w_gym.configs.values import Settings
from v2w_gym.configs.world_model import WorldModelSettings, world_model_settings

COMMANDS = [RankConfig, GateConfig, RolloutConfig, ActionControlConfig, FidelityConfig]
WORDS = ["checkpoint=x", "preset=draft", "sampler.steps=10", "device=cuda", "dtype=bfloat16"]
CHOSEN = WorldModelSettings("x", "draft", {"steps": 10}, device="cuda", dtype="bfloat16")


@dataclass(frozen=True)
class Nesting(Settings):
    world_model: WorldModelSettings = field(default_factory=WorldModelSettings)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_them_as_flat_words(command):
    cfg = load_config(command, [], WORDS)
    names = [setting.name for setting in fields(WorldModelSettings)]
    assert {name: getattr(cfg, name) for name in names} == asdict(CHOSEN)


def test_they_nest(tmp_path):
    words = [f"world_model.{word}" for word in WORDS]
    assert load_config(Nesting, [], words).world_model == CHOSEN
    file = tmp_path / "nesting.yaml"
    file.write_text("world_model: {checkpoint: x, preset: draft, sampler: {steps: 10}}\n")
    cfg = load_config(Nesting, [str(file)], words[3:])
    assert cfg.world_model == CHOSEN
    with pytest.raises(ValueError, match="did you mean 'preset'"):
        load_config(Nesting, [], ["world_model.prest=draft"])


def test_every_preset_that_may_be_named_is_known():
    assert all(preset_sampler(name, SamplerConfig(), "per_frame") for name in PRESET_NAMES)
    with pytest.raises(ValueError, match="expected preset to be one of"):
        preset_sampler("drafft", SamplerConfig(), "per_frame")


def test_keywords_are_checked_at_once():
    def load(checkpoint=None, *, task="", **settings):
        return world_model_settings({"checkpoint": checkpoint, **settings}, load)

    assert load("x", preset=None) == WorldModelSettings("x")
    with pytest.raises(TypeError, match="load got an unexpected argument 'tsk'; did you mean 'tas"):
        load(tsk="")
    with pytest.raises(ValueError, match="expected window >= 1, found 0"):
        load(window=0)
