"""Cached rollouts against their definition: one pass over all frames the newest depends on."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from v2w_gym.configs.model import GeometryConfig
from v2w_gym.configs.published import PUBLISHED, SIZES
from v2w_gym.configs.sampler import SamplerConfig
from v2w_gym.world_models.state import FrameNoise, join_states
from v2w_gym.world_models.vid2world.kv_cache import KVCache
from v2w_gym.world_models.vid2world.next_frame import (
    sample_full_window,
    slide_window,
    window_network,
)
from v2w_gym.world_models.vid2world.temporal import FullWindow

GUIDED = SamplerConfig(
    steps=3, guidance_scale=2.5, guidance_rescale=0.7, history_noise_level=39, eta=1.0
)
EXACT = 2e-5
"""Largest relative difference in single precision; the same maths in another order."""


@pytest.fixture
def make(tiny_config, make_model):
    """Make a model with a window of 5, guidance, and settings of one's own."""

    def made(history="window", norm="per_frame", **settings):
        unet = replace(tiny_config.unet, temporal_norm=norm)
        cfg = replace(tiny_config, window=5, unet=unet, **settings)
        return make_model(cfg).with_sampler(replace(GUIDED, history=history))

    return made


class Rollouts:
    """Rollouts that are stepped together, with all that was ever drawn of each."""

    def __init__(self, model, lengths):
        self.model, self.drawn, self.taken, self.ages = model, [], [], []
        self.state = join_states([self._begin(row, length) for row, length in enumerate(lengths)])

    def _begin(self, row, length):
        rng = np.random.default_rng(row)
        size = self.model.robot.frame_size
        frames = rng.integers(0, 256, (1, length, *size, 3), np.uint8)
        actions = self._actions(rng, length - 1)[None]
        state = self.model.start(frames, actions, FrameNoise((row,), (0,), (length - 1,)))
        hidden = torch.full((1, actions.shape[2]), torch.nan)
        record = list(state.latents[0, -length:]), [*hidden, *torch.from_numpy(actions[0])]
        if row < len(self.drawn):
            self.drawn[row], self.taken[row] = record
        else:
            self.drawn.append(record[0])
            self.taken.append(record[1])
        return state

    def _actions(self, rng, count):
        robot = self.model.robot
        drawn = rng.uniform(-0.05, 0.05, (count, robot.action_size)) + robot.make_action()
        return np.clip(drawn, robot.low, robot.high).astype(np.float32)

    @property
    def noise(self):
        """The noise of the frames that come next."""
        rows = range(len(self.drawn))
        return FrameNoise(tuple(rows), tuple(0 for _ in rows), tuple(map(len, self.drawn)))

    def reset(self, row):
        rows = [self.state.select([i]) for i in range(len(self.drawn))]
        rows[row] = self._begin(row, 1)
        self.state = join_states(rows)

    def step(self):
        """Take a step; return the latents that were drawn, and those the definition gives."""
        actions = self._actions(np.random.default_rng(len(self.drawn[0])), len(self.drawn))
        noise = self.noise
        expected = [
            self._expected(row, torch.from_numpy(actions[row : row + 1]), noise.select([row]))
            for row in range(len(self.drawn))
        ]
        self.state = self.model.step(self.state, actions, noise)
        newest = self.state.latents[:, -1]
        for row in range(len(self.drawn)):
            self.drawn[row].append(newest[row])
            self.taken[row].append(torch.from_numpy(actions[row]))
        return newest, torch.cat(expected)

    @torch.inference_mode()
    def _expected(self, row, action, noise):
        rolling = self.model.cfg.sampler.history == "rolling"
        row_state = self.state.select([row])
        if not rolling:
            in_window = slide_window(self.model, row_state, noise.earlier(1))
            return sample_full_window(self.model, in_window, action, noise)
        return whole_episode(
            self.model, row_state, torch.stack(self.drawn[row])[None],
            torch.stack([*self.taken[row], action[0]])[None], noise,
        )  # fmt: skip


def whole_episode(model, state, latents, actions, noise):
    """Draw a frame with one pass over all frames since the start, attention reaching a window."""
    sampler = model.sampler
    network = window_network(
        model, state, actions, FullWindow(actions.shape[1], reach=model.window)
    )
    known = sampler.noisy_history(latents, noise.earlier(1))
    level, size = sampler.history_level, model.window

    def denoise(newest, noise_level):
        """Guide over the frames of the window, of a pass over all of them."""
        levels = torch.full(actions.shape[:2], level)
        levels[:, -1] = noise_level
        kept = torch.ones(levels.shape, dtype=torch.bool)
        hidden = kept.clone()
        hidden[:, -1] = False

        def windowed(*inputs):
            return network(*inputs)[:, -size:]

        window = torch.cat([known, newest[:, None]], 1)
        return sampler.guided_velocity(windowed, window, levels, (kept, hidden))[:, -1]

    return sampler.next_frame(denoise, state.condition, noise)


def error(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("history", ["window", "rolling"])
def test_a_cached_rollout_is_exact_far_past_the_window(make, history):
    """Rollouts of different ages side by side, one of them reset on the way."""
    rollouts = Rollouts(make(history), [1, 3, 4])
    for step in range(14):
        if step == 8:
            rollouts.reset(1)
        assert error(*rollouts.step()) < EXACT, step


@pytest.mark.parametrize("settings", [{"first_action": "zeros"}, {"condition_frame": "oldest"}])
def test_what_a_window_begins_with_follows_it(make, settings):
    rollouts = Rollouts(make(**settings), [1, 2])
    for step in range(8):
        assert error(*rollouts.step()) < EXACT, step


def test_rolling_keeps_the_conditioning_frame_of_the_start(make):
    rollouts = Rollouts(make("rolling", condition_frame="oldest"), [1])
    begun = rollouts.state.condition
    for step in range(8):
        assert error(*rollouts.step()) < EXACT, step
    assert torch.equal(rollouts.state.condition, begun)


def test_without_guidance_or_rescale_too(make):
    for change in ({"guidance_scale": 1.0}, {"guidance_rescale": 0.0}):
        model = make("rolling")
        rollouts = Rollouts(model.with_sampler(replace(model.cfg.sampler, **change)), [1, 3])
        for step in range(8):
            assert error(*rollouts.step()) < EXACT, (change, step)


@pytest.mark.parametrize("solver", ["dpm++", "unipc"])
def test_every_solver_works_with_a_cache(make, solver):
    model = make("rolling")
    sampler = replace(model.cfg.sampler, solver=solver, eta=0.0, steps=6)
    rollouts = Rollouts(model.with_sampler(sampler), [1, 3])
    for step in range(7):
        assert error(*rollouts.step()) < EXACT, step


@pytest.mark.parametrize("history", ["window", "rolling"])
def test_a_model_with_a_context_has_a_cache_too(make_model, history):
    tiny = SIZES["tiny"].of(PUBLISHED["google_robot"])
    geometry = GeometryConfig(resized=(32, 40), canvas=(32, 64))
    unet = replace(tiny.unet, temporal_norm="per_frame")
    cfg = replace(tiny, window=3, geometry=geometry, unet=unet)
    sampler = replace(GUIDED, steps=2, history=history)
    rollouts = Rollouts(make_model(cfg).with_sampler(sampler), [1, 2])
    for step in range(4):
        assert error(*rollouts.step()) < EXACT, step


def counted(model):
    """Count the frames that pass the network, as (frames of a rollout at once) -> frames."""
    passed = Counter()

    def count(module, inputs, output):
        passed["all"] += len(inputs[0])

    model.unet.conv_out.register_forward_hook(count)
    return passed


@pytest.mark.parametrize(("history", "full"), [("rolling", 2 * 3 + 1), ("window", 2 * 3 + 4)])
def test_no_frame_passes_more_often_than_it_must(make, history, full):
    model = make(history)
    passed = counted(model)
    rollouts = Rollouts(model, [1])
    actions = rollouts._actions(np.random.default_rng(0), 1)
    for step in range(9):
        passed.clear()
        noise = FrameNoise((0,), (0,), (step + 1,))
        rollouts.state = model.step(rollouts.state, actions, noise)
        grows = rollouts.state.lengths[0] < 5 or (history == "rolling")
        assert passed["all"] == (2 * 3 + 1 if grows else full), step


def test_a_cache_never_grows_and_has_the_size_it_should_have(make):
    rollouts = Rollouts(make("rolling"), [1])
    sizes = []
    for _ in range(9):
        rollouts.step()
        sizes.append(rollouts.state.nbytes)
    assert len(set(sizes)) == 1
    unet, capacity = rollouts.model.unet, 4
    cache = KVCache(*rollouts.state.cache)
    pixels = {16: 8 * 8, 32: 4 * 4}  # channels -> latent pixels
    convs = sum(2 * c.out_channels * pixels_of(c, unet, pixels) for c in unet.temporal_convs)
    assert sum(x.numel() for x in cache.conv_inputs) == convs
    inner = [(16, 64)] * 2 + [(32, 16)] * 2 * 4  # initial attention, then four stages with two each
    assert sum(x.numel() for x in cache.keys) == sum(c * hw * capacity for c, hw in inner)
    assert not cache.norm_sums and cache.velocity_sums.numel() == 2 * capacity


def pixels_of(conv, unet, pixels):
    return pixels[conv.out_channels]


def test_a_frame_that_is_not_appended_is_noticed(make, monkeypatch):
    """The exactness tests can fail: here the oldest frame is evicted and none is appended."""

    def wrong(self, frame):
        return self.padded(self.capacity + 1)

    monkeypatch.setattr(KVCache, "append", wrong)
    rollouts = Rollouts(make("rolling"), [1])
    assert max(error(*rollouts.step()) for _ in range(4)) > 100 * EXACT


def test_frozen_statistics_are_near_the_exact_ones_and_not_equal(make):
    exact, frozen = make("window", "pooled"), make("frozen", "pooled")
    rollouts = Rollouts(frozen, [1, 3])
    errors = [error(*rollouts.step()) for _ in range(8)]
    assert 100 * EXACT < max(errors) < 0.5
    control = Rollouts(exact, [1, 3])
    assert max(error(*control.step()) for _ in range(3)) < EXACT


def test_a_frozen_window_is_conditioned_on_its_oldest_frame_where_the_model_is(make):
    rollouts = Rollouts(make("frozen", "pooled", condition_frame="oldest"), [1])
    for _ in range(6):
        rollouts.step()
    assert torch.equal(rollouts.state.condition, rollouts.state.latents[:, 1])


def test_a_frozen_step_costs_as_much_as_a_cached_one(make):
    model = make("frozen", "pooled")
    passed = counted(model)
    rollouts = Rollouts(model, [1])
    actions = rollouts._actions(np.random.default_rng(0), 1)
    for frame in range(1, 8):
        passed.clear()
        rollouts.state = model.step(rollouts.state, actions, FrameNoise((0,), (0,), (frame,)))
    assert passed["all"] == 2 * 3 + 4


def test_both_branches_of_a_pooled_window_pass_in_one_batch(make):
    model = make("window", "pooled")
    batches = []
    model.unet.conv_out.register_forward_hook(lambda m, i, o: batches.append(len(i[0])))
    shared = []
    model.unet.conv_in.register_forward_hook(lambda m, i, o: shared.append(len(i[0])))
    rollouts = Rollouts(model, [3])
    rollouts.model.step(
        rollouts.state, rollouts._actions(np.random.default_rng(0), 1), rollouts.noise
    )
    assert batches == [2 * 4] * 3 and shared == [4] * 3


@pytest.mark.parametrize(
    ("norm", "sampler", "message"),
    [
        ("pooled", {"history": "rolling"}, "found 'rolling', .* per_frame norms"),
        ("per_frame", {"history": "frozen"}, "found 'frozen', .* pooled norms"),
        ("per_frame", {"history": "rolling", "own_context": True}, "own_context=true"),
        ("per_frame", {"history": "roling"}, "did you mean 'rolling'"),
    ],
)
def test_histories_that_norms_do_not_allow_are_refused(make, norm, sampler, message):
    model = make(norm=norm)
    with pytest.raises(ValueError, match=f"(?i){message}"):
        model.with_sampler(replace(model.cfg.sampler, **sampler))


def test_a_network_that_is_not_causal_has_no_cache(make):
    model = make()
    ahead = model.__class__(replace(model.cfg, unet=replace(model.cfg.unet, causal=False)))
    ahead.load_state_dict(model.state_dict())
    rollouts = Rollouts(ahead.eval().requires_grad_(False), [2])
    assert rollouts.state.cache == ()
    with pytest.raises(ValueError, match="causal=false"):
        ahead.with_sampler(replace(model.cfg.sampler, history="rolling"))


def test_a_state_of_another_sampler_is_refused(make):
    frozen, exact = make("frozen", "pooled"), make("window", "pooled")
    rollouts = Rollouts(frozen, [2])
    with pytest.raises(ValueError, match="cache=False.* found 5 and True"):
        exact.step(rollouts.state, rollouts._actions(np.random.default_rng(0), 1), rollouts.noise)


def test_branches_of_their_own_context_are_computed_afresh(make):
    model = make()
    own = model.with_sampler(replace(model.cfg.sampler, own_context=True))
    rollouts = Rollouts(own, [2])
    assert rollouts.state.cache == ()
    assert error(*rollouts.step()) == 0


def test_in_half_precision_a_cache_adds_no_error_of_its_own(make):
    """bfloat16 rounds either way of doing the same sums; neither may be much worse."""
    exact, half = make(), make()
    half.unet.bfloat16()
    rollouts = Rollouts(exact, [4])
    begun = Rollouts(half, [4])
    frames = []
    for model, state in ((exact, rollouts.state), (half, begun.state)):
        in_window = slide_window(model, state, rollouts.noise.earlier(1))
        action = torch.from_numpy(rollouts._actions(np.random.default_rng(0), 1))
        afresh = sample_full_window(model, in_window, action, rollouts.noise)
        newer = model.step(state, action.numpy(), rollouts.noise)
        frames.append((afresh, newer.latents[:, -1]))
    (definition, _), (naive, cached) = frames
    assert all(tensor.dtype == torch.bfloat16 for tensor in begun.state.cache.keys)
    assert 1e-4 < error(cached, definition) < 1.5 * error(naive, definition)
