"""Solvers, which integrate a latent from noise to clean with predicted velocities.

The published code uses DDIM. DPM-Solver++(2M) and UniPC combine earlier predictions of the clean
latent with the newest one, so they need fewer steps.

A noisy latent is x = a c x0 + s eps, with signal power a^2, noise s^2 = 1 - a^2, and the dynamic
rescale c of the clean latent x0. The velocity is v = a eps - s c x0, so that
c x0 = a x - s v and eps = a v + s x. At the last level a = 0 (zero terminal signal-to-noise ratio).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import expm1, inf, isinf, log
from typing import Protocol

import numpy as np
from torch import Tensor

from v2w_gym.configs.names import lookup
from v2w_gym.configs.sampler import SamplerConfig
from v2w_gym.world_models.diffusion import NoiseSchedule

FEWEST_WITH_LOW_END = 6
"""Fewest steps of which a multistep solver spends one at a low noise level."""


class Solver(Protocol):
    """The denoising steps of one frame or one clip; each sampling needs a new solver.

    Latents may have any shape. All of them are at one noise level.
    """

    levels: Sequence[int]
    """The noise level of the network's input at each step."""

    def spreads(self, index: int) -> bool:
        """Return whether step `index` adds fresh noise."""
        ...

    def step(self, index: int, noisy: Tensor, velocity: Tensor, draw: Tensor | None) -> Tensor:
        """Take step `index`. Callers take the steps in order, each from the last one's result.

        Args:
            index: Number of the step, from 0.
            noisy: Latents at `levels[index]`. The solver may keep them until the next step.
            velocity: Their guided velocity.
            draw: New noise if the step adds some; else None.

        Returns:
            Latents at the next level, or the result.
        """
        ...


@dataclass(frozen=True)
class Step:
    """One DDIM step from a noise level to the next, with factors in single precision.

    Attributes:
        level: The noise level that it starts from.
        power: Share of signal power at its end; 1 is the clean latent.
        rescale: Factor on the clean latent, from the scale at `level` to that at the end.
        direction: Factor on the predicted noise.
        spread: Factor on new noise (sigma).
    """

    level: int
    power: float
    rescale: float
    direction: float
    spread: float


class Ddim:
    """DDIM, a `Solver` of first order; with eta > 0 each step adds noise.

    x' = a' c' x0 + sqrt(1 - a'^2 - sigma^2) eps + sigma z, with primes at the end of the step.
    Source: Song et al. 2021, equation 12; dynamic rescale (c) as in the published code.
    """

    def __init__(self, schedule: NoiseSchedule, cfg: SamplerConfig) -> None:
        """Tabulate the steps."""
        self._steps = ddim_steps(schedule, cfg)
        self.levels: Sequence[int] = [step.level for step in self._steps]
        power = schedule.alphas_cumprod[list(self.levels)]
        self._signals, self._noises = power.sqrt().tolist(), (1 - power).sqrt().tolist()

    def spreads(self, index: int) -> bool:
        """Return whether step `index` adds fresh noise."""
        return self._steps[index].spread > 0

    def step(self, index: int, noisy: Tensor, velocity: Tensor, draw: Tensor | None) -> Tensor:
        """Take step `index`, see `Solver`."""
        step, signal, noise = self._steps[index], self._signals[index], self._noises[index]
        clean = (signal * noisy - noise * velocity) * step.rescale  # c' x0
        predicted_noise = signal * velocity + noise * noisy  # eps
        moved = step.power**0.5 * clean + step.direction * predicted_noise
        return moved if draw is None else moved + step.spread * draw


@dataclass(frozen=True)
class _Point:
    """The start or end of a step. The squares of `signal` and `noise` need not sum to 1.

    Attributes:
        power: Share of signal power, without dynamic rescale.
        scale: Dynamic rescale there.
    """

    power: float
    scale: float

    @property
    def signal(self) -> float:
        """Amplitude of the clean latent."""
        return self.power**0.5 * self.scale

    @property
    def noise(self) -> float:
        """Amplitude of the noise."""
        return (1 - self.power) ** 0.5

    @property
    def log_ratio(self) -> float:
        """Lambda = log(signal / noise), the time variable of multistep solvers."""
        if self.signal == 0:
            return -inf
        return inf if self.noise == 0 else log(self.signal / self.noise)

    def clean(self, noisy: Tensor, velocity: Tensor) -> Tensor:
        """Return the predicted clean latent at scale 1: x0 = (a x - s v) / c."""
        return (self.power**0.5 / self.scale) * noisy - (self.noise / self.scale) * velocity


class Multistep:
    """DPM-Solver++(2M), or UniPC of order 2 if it also corrects: a `Solver` of second order.

    With x0(lambda) the predicted clean latent, the exact step over an interval of width h is
    x' = (s'/s) x + s' integral of exp(lambda) x0(lambda) d lambda. A polynomial through the newest
    predictions approximates x0, so a step is `carry * x + gain * weighted predictions`. UniPC's
    predictor with B2(h) is DPM-Solver++(2M). Its corrector repeats the step with the prediction at
    the step's end. The next step needs that anyway, so it costs no extra call of the network.
    Source: Lu et al. 2022 (DPM-Solver++), algorithm 2; Zhao et al. 2023 (UniPC), section 3.
    """

    def __init__(self, schedule: NoiseSchedule, cfg: SamplerConfig, *, corrects: bool) -> None:
        """Tabulate the steps, in double precision."""
        self.levels: Sequence[int] = multistep_levels(len(schedule), cfg.steps)
        powers, scales = schedule.alphas_cumprod.tolist(), schedule.scale.tolist()
        last = self.levels[-1]
        self._points = [_Point(powers[level], scales[level]) for level in self.levels]
        self._points.append(_Point(1, 1) if cfg.finish_clean else _Point(powers[0], scales[last]))
        self._widths = [end.log_ratio - start.log_ratio for start, end in pairwise(self._points)]
        self._corrects = corrects
        self._predictions: list[Tensor] = []  # clean latents, newest first
        self._start: Tensor | None = None  # latents at the start of the last step

    def spreads(self, index: int) -> bool:
        """Return whether step `index` adds fresh noise: never."""
        return False

    def step(self, index: int, noisy: Tensor, velocity: Tensor, draw: Tensor | None) -> Tensor:
        """Take step `index`, see `Solver`."""
        # The prediction at this level is also the one at the end of the step before.
        self._predictions = [self._points[index].clean(noisy, velocity), *self._predictions[:2]]
        if self._corrects and self._start is not None:
            noisy = self._move(index - 1, self._start, _corrector(self._widths, index - 1))
        self._start = noisy
        return self._move(index, noisy, _predictor(self._widths, index))

    def _move(self, index: int, start: Tensor, weights: Sequence[float]) -> Tensor:
        """Step over one interval with the weighted newest predictions; the weights sum to 1."""
        here, there = self._points[index], self._points[index + 1]
        carry = there.noise / here.noise  # s' / s
        gain = there.signal - carry * here.signal  # s' integral of exp(lambda)
        moved = carry * start
        for weight, clean in zip(weights, self._predictions, strict=False):
            moved = moved + (gain * weight) * clean
        return moved


def make_solver(schedule: NoiseSchedule, cfg: SamplerConfig) -> Solver:
    """Return a new solver, for one frame or one clip.

    Raises:
        ValueError: An unknown solver, or settings that it does not support.
    """
    check_solver(schedule, cfg)
    return SOLVERS[cfg.solver](schedule, cfg)


def check_solver(schedule: NoiseSchedule, cfg: SamplerConfig) -> None:
    """Check the solver's name, its eta and the number of steps.

    Raises:
        ValueError: A setting out of range, or an eta that the solver does not support.
    """
    lookup(SOLVERS, cfg.solver, "solver")
    if cfg.solver != "ddim" and cfg.eta != 0:
        raise ValueError(
            f"expected eta=0 with solver={cfg.solver}, which adds no noise, found eta={cfg.eta}; "
            "set eta=0, or solver=ddim"
        )
    trailing_levels(len(schedule), cfg.steps)


def trailing_levels(noise_levels: int, steps: int) -> list[int]:
    """Return `steps` levels, evenly spaced from the last level downwards.

    Source: Lin et al. 2024, section 3.3.

    Raises:
        ValueError: More steps than levels, or none.
    """
    if not 1 <= steps <= noise_levels:
        raise ValueError(f"expected 1 to {noise_levels} sampler steps, found {steps}")
    spaced = np.arange(noise_levels, 0, -noise_levels / steps)[:steps]  # rounding can add one
    return [int(level) - 1 for level in np.round(spaced)]


def multistep_levels(noise_levels: int, steps: int) -> list[int]:
    """Return the levels of a multistep solver: trailing levels, and a last one near the clean end.

    The last step ends without noise, so it is of first order. With a dozen trailing steps its error
    exceeds that of all others, so one step is moved to a low level. With fewer than
    `FEWEST_WITH_LOW_END` steps the others need all steps.

    Raises:
        ValueError: More steps than levels, or none.
    """
    levels, low = trailing_levels(noise_levels, steps), noise_levels // 100
    if steps < FEWEST_WITH_LOW_END or levels[-1] <= low:
        return levels
    return [*trailing_levels(noise_levels, steps - 1), low]


def ddim_steps(schedule: NoiseSchedule, cfg: SamplerConfig) -> list[Step]:
    """Return the DDIM steps of one frame, from noise to the clean latent (or to level 0).

    Source: DDIM equations 12 and 16.
    """
    levels = trailing_levels(len(schedule), cfg.steps)
    powers, scales = schedule.alphas_cumprod.numpy(), schedule.scale.numpy()
    ends = [(powers[level], scales[level]) for level in levels[1:]]
    last = (1.0, 1.0) if cfg.finish_clean else (powers[0], scales[levels[-1]])
    return [
        _step(level, (powers[level], scales[level]), end, cfg.eta)
        for level, end in zip(levels, [*ends, last], strict=True)
    ]


def _step(
    level: int, start: tuple[np.float32, np.float32], end: tuple[float, float], eta: float
) -> Step:
    """Tabulate one step from (power, scale) to (power, scale)."""
    before, after = float(start[0]), float(end[0])
    # sigma = eta sqrt((1 - a'^2) / (1 - a^2) (1 - a^2 / a'^2)), DDIM equation 16.
    noise_share = (1 - after) / float(1 - start[0])
    spread = np.float32(eta * (noise_share * (1 - before / after)) ** 0.5)
    # In single precision 1 - a'^2 - sigma^2 can fall just below zero at the first step. Clamp it at
    # zero; the published code returns NaN.
    radicand = 1 - np.float32(after) - spread**2
    direction = float(max(radicand, np.float32(0))) ** 0.5
    return Step(level, after, float(np.float32(end[1]) / start[1]), direction, float(spread))


def _predictor(widths: Sequence[float], index: int) -> tuple[float, ...]:
    """Return the weights of the predictions, newest first, over interval `index`.

    They extrapolate the line through two predictions to the middle of the interval: 1 + r and -r
    with r = h / (2 h_before). A step that starts or ends at infinite lambda is of first order. So
    is the second step, since h_before is infinite and r = 0.
    """
    if index == 0 or isinf(widths[index]):
        return (1.0,)
    slope = widths[index] / (2 * widths[index - 1])
    return (1 + slope, -slope)


def _corrector(widths: Sequence[float], index: int) -> tuple[float, ...]:
    """Return the weights of the predictions, newest first, including that at the interval's end.

    They integrate the parabola through three predictions, or the line through two, exactly. The
    first interval starts at pure noise and is infinite; UniPC's first-order weights are 1/2 at each
    end.
    """
    width = widths[index]
    if isinf(width):
        return (0.5, 0.5)
    # Moments of u = (lambda - start) / h in [0, 1] under the weight exp(lambda):
    # E[u] = 1 / (1 - exp(-h)) - 1 / h and E[u^2] = 1 / (1 - exp(-h)) - 2 E[u] / h.
    mean = -1 / expm1(-width) - 1 / width
    mean_square = -1 / expm1(-width) - 2 * mean / width
    if isinf(widths[index - 1]):
        return (mean, 1 - mean)
    # Lagrange's polynomials through u = 1 (new), 0 and -before (old), integrated.
    before = widths[index - 1] / width
    new = (mean_square + before * mean) / (1 + before)
    old = (mean_square - mean) / (before * (1 + before))
    return (new, 1 - new - old, old)


SOLVERS: Mapping[str, Callable[[NoiseSchedule, SamplerConfig], Solver]] = {
    "ddim": Ddim,
    "dpm++": partial(Multistep, corrects=False),
    "unipc": partial(Multistep, corrects=True),
}
"""`SamplerConfig.solver` -> solver."""
