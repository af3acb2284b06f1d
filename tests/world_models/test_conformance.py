"""Every world model passes the conformance tests."""

from dataclasses import replace

import pytest

from v2w_gym.configs.published import PUBLISHED, SIZES
from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.configs.sampler import preset_sampler
from v2w_gym.world_models.conformance import ClipModelConformance
from v2w_gym.world_models.copy_last import CopyLast
from v2w_gym.world_models.loading import load_world_model

GUIDED = {"guidance_scale": 2.0, "guidance_rescale": 0.7, "eta": 1.0}


class TestCopyLast(ClipModelConformance):
    @pytest.fixture
    def model(self):
        return CopyLast(STANDIN_SAWYER, window=4)


class TestBundled(ClipModelConformance):
    @pytest.fixture
    def model(self):
        return load_world_model(window=4, sampler={"steps": 1})


class TestTiny(ClipModelConformance):
    """Random weights, norms of both kinds, and every kind of history."""

    @pytest.fixture(
        params=[
            ("per_frame", {}),
            ("per_frame", {**GUIDED, "history": "rolling"}),
            ("pooled", GUIDED),
            ("pooled", {**GUIDED, "history": "frozen"}),
        ],
        ids=["per_frame", "per_frame_rolling_guided", "pooled_guided", "pooled_frozen_guided"],
    )
    def model(self, request, tiny_config, make_model):
        norm, sampler = request.param
        unet = replace(tiny_config.unet, temporal_norm=norm)
        sampler = replace(tiny_config.sampler, **sampler)
        return make_model(replace(tiny_config, unet=unet)).with_sampler(sampler)


@pytest.fixture(scope="module")
def published(make_model):
    cfg = SIZES["tiny"].of(PUBLISHED["google_robot"])
    cfg = replace(cfg, robot="standin_sawyer", geometry=None, window=4)
    sampler = replace(preset_sampler("reference", cfg.sampler, cfg.unet.temporal_norm), steps=2)
    return make_model(cfg).with_sampler(sampler)


class TestPublished(ClipModelConformance):
    """The parts, the pooled norms and the quirks of the published models, at a stamp's size."""

    @pytest.fixture
    def model(self, published):
        return published
