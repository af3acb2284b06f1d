"""Solvers on distributions with a known exact denoiser, and DDIM against its formula."""

from dataclasses import dataclass, replace
from itertools import pairwise
from math import exp, expm1, log, log2

import pytest
import torch
from torch import Tensor

from v2w_gym.configs.model import DiffusionConfig
from v2w_gym.configs.sampler import PRESETS, SamplerConfig
from v2w_gym.world_models.diffusion import NoiseSchedule
from v2w_gym.world_models.solvers import (
    SOLVERS,
    check_solver,
    ddim_steps,
    make_solver,
    multistep_levels,
    trailing_levels,
)

SCHEDULE = NoiseSchedule(DiffusionConfig(rescale_final=0.7))
MULTISTEP = ["dpm++", "unipc"]


@dataclass(frozen=True)
class Mixture:
    """The exact denoiser of latents from a mixture of Gaussians.

    Attributes:
        means: (K, N) float64; N values in a latent.
        weights: (K,) logarithms.
        spread: Standard deviation around each mean.
    """

    means: Tensor
    weights: Tensor
    spread: float

    def velocity(self, noisy, level):
        signal, noise, scale = amplitudes(level)
        flat = noisy.flatten(1)[:, None]
        power = (signal * scale * self.spread) ** 2
        away = flat - signal * scale * self.means  # (B, K, N)
        chances = self.weights - away.square().sum(-1) / (2 * (power + noise**2))
        clean = self.means + away * (signal * scale * self.spread**2 / (power + noise**2))
        expected = (chances.softmax(1)[..., None] * clean).sum(1).view_as(noisy)
        return (signal * noisy - scale * expected) / noise


@dataclass(frozen=True)
class Guided:
    """Guidance of one distribution away from another."""

    conditional: Mixture
    unconditional: Mixture
    scale: float = 2.5

    def velocity(self, noisy, level):
        unconditional = self.unconditional.velocity(noisy, level)
        return unconditional + self.scale * (
            self.conditional.velocity(noisy, level) - unconditional
        )


def amplitudes(level):
    power = SCHEDULE.alphas_cumprod[level].double().item()
    return power**0.5, (1 - power) ** 0.5, SCHEDULE.scale[level].item()


def solve(world, first, solver, steps, **settings):
    cfg = SamplerConfig(solver=solver, steps=steps, **settings)
    solver, noisy = make_solver(SCHEDULE, cfg), first
    for index, level in enumerate(solver.levels):
        noisy = solver.step(index, noisy, world.velocity(noisy, level), None)
    return noisy


def rms(difference):
    return difference.square().mean().sqrt().item()


def make_worlds(seed):
    """Twelve narrow modes in 64 dimensions, without and with guidance towards a few of them."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    means, weights = 0.5 * normal(12, 64), normal(12).log_softmax(0)
    unconditional = Mixture(means, weights, 0.2)
    conditional = Mixture(means, (weights + 1.5 * normal(12)).log_softmax(0), 0.2)
    return (unconditional, Guided(conditional, unconditional)), normal(48, 4, 4, 4)


class Scores:
    """The errors of solvers in several worlds, each against 1000 DDIM steps from its noise."""

    def __init__(self):
        self.cases = []
        for seed in range(4):
            worlds, first = make_worlds(seed)
            self.cases += [(w, first, solve(w, first, "ddim", 1000)) for w in worlds]

    def errors(self, solver, steps):
        return [rms(solve(w, x, solver, steps) - exact) for w, x, exact in self.cases]

    def __call__(self, solver, steps):
        """Return the geometric mean over the worlds."""
        errors = self.errors(solver, steps)
        return exp(sum(map(log, errors)) / len(errors))


@pytest.fixture(scope="module")
def score():
    return Scores()


@pytest.mark.parametrize("steps", [8, 12, 15])
@pytest.mark.parametrize("solver", MULTISTEP)
def test_a_multistep_solver_lowers_the_error(score, solver, steps):
    assert score(solver, steps) < 0.6 * score("ddim", steps)


def test_few_steps_of_a_multistep_solver_do_what_many_of_ddim_do(score):
    assert score("unipc", 8) < score("ddim", 20)
    assert score("unipc", 10) < 1.1 * score("ddim", 50)
    assert score("unipc", 12) < 0.9 * score("ddim", 50)
    assert score("dpm++", 12) < 0.9 * score("ddim", 50)
    assert score("unipc", 15) < min(score("dpm++", 15), 1.1 * score("ddim", 100))
    pairs = zip(score.errors("unipc", 15), score.errors("ddim", 50), strict=True)
    assert all(few < many for few, many in pairs)


def test_the_step_spent_at_a_low_level_pays(score, monkeypatch):
    spent = score("unipc", 10)
    monkeypatch.setattr("v2w_gym.world_models.solvers.multistep_levels", trailing_levels)
    assert spent < 0.7 * score("unipc", 10)


@pytest.mark.parametrize(("solver", "order"), [("ddim", 1), ("dpm++", 2), ("unipc", 3)])
def test_the_error_at_middle_levels_falls_as_fast_as_the_order_says(solver, order):
    mean, spread = torch.tensor(0.6, dtype=torch.float64), 0.5
    world = Mixture(mean.expand(1, 64), torch.zeros(1), spread)
    first = make_worlds(0)[1]
    signal, noise, scale = amplitudes(499)
    signal *= scale
    exact = signal * mean + (signal**2 * spread**2 + noise**2) ** 0.5 * first
    errors = []
    for halves in (10, 20, 40):  # so many steps from level 999 to 499
        cfg = SamplerConfig(solver=solver, steps=2 * halves + (solver != "ddim"))
        stepper, noisy = make_solver(SCHEDULE, cfg), first
        for index in range(halves):
            level = stepper.levels[index]
            noisy = stepper.step(index, noisy, world.velocity(noisy, level), None)
        assert stepper.levels[halves] == 499
        errors.append(rms(noisy - exact))
    for more, fewer in pairwise(errors):
        assert log2(more / fewer) > 0.85 * order


def published_unipc(clean, noisy, points, order):
    """UniPC, B2(h), predicting data, as its authors' code has it: a linear system for each step.

    Args:
        clean: (index, latents) -> the clean latents that are predicted there.
        noisy: Latents at the first point.
        points: (signal, noise, log ratio) of each level.
        order: 2; 1 leaves the corrector out, which makes it DPM-Solver++(2M).
    """
    predictions, left = [], None
    for index, (signal, noise, time) in enumerate(points[:-1]):
        predictions.append(clean(index, noisy))
        if index and order == 2:
            width = time - points[index - 1][2]
            phi, moved = expm1(-width), noise / points[index - 1][1] * left
            moved = moved - signal * phi * predictions[-2]
            rhos, change = [0.5], [predictions[-1] - predictions[-2]]
            if index > 1:
                past = (points[index - 2][2] - points[index - 1][2]) / width
                first = -phi / width - 1
                second = -first / width - 0.5
                system = torch.tensor([[1.0, 1.0], [past, 1.0]], dtype=torch.float64)
                sides = torch.tensor([first / phi, 2 * second / phi], dtype=torch.float64)
                rhos = torch.linalg.solve(system, sides).tolist()
                change = [(predictions[-3] - predictions[-2]) / past, *change]
            noisy = moved - signal * phi * sum(r * c for r, c in zip(rhos, change, strict=True))
        left, (ahead, quiet, then) = noisy, points[index + 1]
        phi = expm1(time - then)
        noisy = quiet / noise * left - ahead * phi * predictions[-1]
        if index:
            past = (points[index - 1][2] - time) / (then - time)
            noisy = noisy - ahead * phi * 0.5 * (predictions[-2] - predictions[-1]) / past
    return clean(len(points) - 1, noisy)  # the last step, to no noise at all, is of first order


@pytest.mark.parametrize(("solver", "order"), [("dpm++", 1), ("unipc", 2)])
@pytest.mark.parametrize("steps", [2, 5, 12])
def test_multistep_solvers_are_the_published_ones(solver, order, steps):
    (world, _), first = make_worlds(2)
    levels = multistep_levels(1000, steps)
    points = []
    for signal, noise, scale in map(amplitudes, levels):
        # at the last level there is no signal; a ratio that is all but 0 takes the limit
        points.append((signal * scale, noise, log(signal * scale / noise) if signal else -1e10))

    def clean(index, noisy):
        signal, noise, scale = amplitudes(levels[index])
        return (signal * noisy - noise * world.velocity(noisy, levels[index])) / scale

    torch.testing.assert_close(
        solve(world, first, solver, steps), published_unipc(clean, first, points, order)
    )


@pytest.mark.parametrize("solver", SOLVERS)
def test_many_steps_end_where_the_equation_does(solver):
    world = Mixture(torch.full((1, 64), 0.6, dtype=torch.float64), torch.zeros(1), 0.3)
    first = make_worlds(0)[1]
    ended = solve(world, first, solver, 1000)
    assert rms(ended - (0.6 + 0.3 * first)) < 5e-3


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 3, 5, 6, 12, 50])
def test_what_is_certain_is_reached_in_any_number_of_steps(solver, steps):
    world = Mixture(torch.full((1, 64), 0.6, dtype=torch.float64), torch.zeros(1), 0.0)
    first = make_worlds(0)[1]
    torch.testing.assert_close(
        solve(world, first, solver, steps), torch.full_like(first, 0.6), rtol=0, atol=1e-5
    )
    stopped = solve(world, first, solver, steps, finish_clean=False)
    signal, noise, _ = amplitudes(0)
    last = make_solver(SCHEDULE, SamplerConfig(solver=solver, steps=steps)).levels[-1]
    expected = 0.6 * signal * amplitudes(last)[2] + noise * first
    torch.testing.assert_close(stopped, expected, rtol=0, atol=1e-5)


EVERY_STEP_COUNT = pytest.param(range(1, 1001), marks=pytest.mark.slow, id="every")


@pytest.mark.parametrize("counts", [range(1, 1001, 9), EVERY_STEP_COUNT])
@pytest.mark.parametrize("solver", MULTISTEP)
@pytest.mark.parametrize("finish_clean", [True, False])
def test_every_step_count_is_finite(solver, finish_clean, counts):
    for steps in counts:
        cfg = SamplerConfig(solver=solver, steps=steps, finish_clean=finish_clean)
        stepper, noisy = make_solver(SCHEDULE, cfg), 1.0  # a number does for a tensor
        assert len(stepper.levels) == steps
        assert all(a > b for a, b in pairwise(stepper.levels))
        for index in range(steps):
            assert not stepper.spreads(index)
            noisy = stepper.step(index, noisy, 0.5 * noisy, None)
        assert abs(noisy) < 100, steps


@pytest.mark.parametrize("solver", SOLVERS)
def test_frames_and_clips_are_solved_alike(solver):
    (world, _), frames = make_worlds(1)
    cfg = SamplerConfig(solver=solver, steps=7)
    one, other = make_solver(SCHEDULE, cfg), make_solver(SCHEDULE, cfg)
    clips = frames.view(12, 4, 4, 4, 4)
    for index, level in enumerate(one.levels):
        velocity = world.velocity(frames, level)
        clips = other.step(index, clips, velocity.view_as(clips), None)
        frames = one.step(index, frames, velocity, None)
        assert torch.equal(clips.view_as(frames), frames)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_solver_leaves_its_inputs_and_other_solvers_alone(solver):
    (world, _), first = make_worlds(1)
    before = first.clone()
    once = solve(world, first, solver, 6)
    assert torch.equal(first, before)
    assert torch.equal(solve(world, first, solver, 6), once)


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_step_reads_what_is_on_the_device(solver):
    cfg = SamplerConfig(solver=solver, steps=8, eta=float(solver == "ddim"))
    stepper = make_solver(SCHEDULE, cfg)
    noisy = torch.empty(2, 4, 8, 8, device="meta")  # holds nothing that could be read
    for index in range(8):
        draw = noisy if stepper.spreads(index) else None
        noisy = stepper.step(index, noisy, noisy, draw)
    assert noisy.shape == (2, 4, 8, 8) and noisy.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"solver": "dpm"}, r"expected solver to be one of \['ddim', 'dpm\+\+', 'unipc'\]"),
        ({"solver": "unipcs"}, "did you mean 'unipc'"),
        ({"solver": "unipc", "eta": 1.0}, "expected eta=0 with solver=unipc.*found eta=1.0"),
        ({"solver": "dpm++", "eta": 0.5}, "expected eta=0 with solver=dpm"),
        ({"solver": "unipc", "steps": 501}, "expected 1 to 500 sampler steps, found 501"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    cfg, schedule = replace(SamplerConfig(), **settings), NoiseSchedule(DiffusionConfig(500))
    with pytest.raises(ValueError, match=message):
        check_solver(schedule, cfg)
    with pytest.raises(ValueError, match=message):
        make_solver(schedule, cfg)


def test_trailing_levels_are_the_published_ones():
    assert trailing_levels(1000, 50)[-3:] == [59, 39, 19]
    assert trailing_levels(1000, 50)[:2] == [999, 979]
    assert trailing_levels(1000, 4) == [999, 749, 499, 249]
    assert trailing_levels(1000, 1) == [999]


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_step_counts_are_refused(steps):
    with pytest.raises(ValueError, match=f"found {steps}"):
        trailing_levels(1000, steps)


def test_multistep_levels_end_low_where_a_step_can_be_spared():
    assert multistep_levels(1000, 6) == [999, 799, 599, 399, 199, 10]
    assert multistep_levels(1000, 5) == trailing_levels(1000, 5)
    assert multistep_levels(1000, 100) == trailing_levels(1000, 100)
    assert multistep_levels(50, 10) == [*trailing_levels(50, 9), 0]


def paper_update(step, noisy, velocity, draw):
    """Equation 12 with the schedule's own tables, as the published loop has it: (B, T, C, h, w)."""
    at = torch.full(noisy.shape[:2], step.level)
    power = SCHEDULE.alphas_cumprod[at][..., None, None, None]
    signal, spread = power.sqrt(), (1 - power).sqrt()
    clean = (signal * noisy - spread * velocity) * step.rescale
    implied = signal * velocity + spread * noisy
    moved = step.power**0.5 * clean + step.direction * implied
    return moved if draw is None else moved + step.spread * draw


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("steps", "eta"), [(1, 0.0), (4, 0.0), (7, 1.0), (20, 0.3), (50, 1.0)])
def test_ddim_is_its_formula_to_the_last_bit(preset, steps, eta):
    cfg = replace(PRESETS[preset], steps=steps, eta=eta)
    solver, noisy = make_solver(SCHEDULE, cfg), torch.randn(2, 3, 4, 5, 6)
    for index, step in enumerate(ddim_steps(SCHEDULE, cfg)):
        velocity, draw = torch.randn(2, 2, 3, 4, 5, 6)
        fresh = draw if solver.spreads(index) else None
        expected = paper_update(step, noisy, velocity, draw if step.spread else None)
        noisy = solver.step(index, noisy, velocity, fresh)
        assert torch.equal(noisy, expected)


@pytest.mark.parametrize("counts", [(20, 25, 50), EVERY_STEP_COUNT])
@pytest.mark.parametrize("preset", PRESETS)
def test_no_step_count_gives_nan(preset, counts):
    # with eta 1 the radicand falls just below zero at the first of 16 step counts
    for steps in counts:
        cfg = replace(PRESETS[preset], steps=steps)
        table = [value for step in ddim_steps(SCHEDULE, cfg) for value in vars(step).values()]
        assert torch.tensor(table).isfinite().all(), steps


def test_last_step_ends_at_the_clean_latent_at_scale_one():
    clean, noise = torch.randn(2, 1, 1, 3, 2, 2)
    cfg = SamplerConfig(steps=2, eta=1.0)
    step = ddim_steps(SCHEDULE, cfg)[-1]
    levels = torch.full((1, 1), step.level)
    scaled = SCHEDULE.rescaled(clean[None], levels)
    noisy = SCHEDULE.add_noise(scaled, noise[None], levels)
    velocity = SCHEDULE.velocity(scaled, noise[None], levels)
    assert (step.power, step.direction, step.spread) == (1, 0, 0)
    last = make_solver(SCHEDULE, cfg).step(1, noisy, velocity, None)
    torch.testing.assert_close(last, clean[None], rtol=1e-4, atol=1e-5)


def test_the_published_sampler_stops_one_step_short():
    last = ddim_steps(SCHEDULE, PRESETS["reference"])[-1]
    assert last.level == 19 and last.rescale == 1
    assert last.power == pytest.approx(0.99915, abs=1e-6)
    assert last.spread == pytest.approx(0.0285069, abs=1e-6)
    assert last.direction == pytest.approx(0.0061120, abs=1e-6)
