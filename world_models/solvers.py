"""Solvers: what takes a latent from noise to clean, step by step, from the velocities it is given.

DDIM is what the published code uses. DPM-Solver++(2M) and UniPC remember earlier predictions of the
clean latent, so that they need fewer steps. All three work on a signal that the schedule scales
(dynamic rescale) and that is absent at the last level (zero terminal signal-to-noise ratio).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import expm1, inf, isinf, log
from typing import Protocol

import numpy as np
from torch import Tensor

from v2w_gym.configs.model import SamplerConfig
from v2w_gym.configs.names import lookup
from v2w_gym.world_models.diffusion import NoiseSchedule

FEWEST_WITH_LOW_END = 6
"""Steps of a multistep solver from which on one is spent at a low noise level."""


class Solver(Protocol):
    """Takes the steps of one frame, or of a whole clip; a fresh one for each.

    Latents have any shape: all of them are at one noise level.
    """

    levels: Sequence[int]
    """The noise level at which the network is asked, per step."""

    def spreads(self, index: int) -> bool:
        """Return whether step `index` adds fresh noise."""
        ...

    def step(self, index: int, noisy: Tensor, velocity: Tensor, draw: Tensor | None) -> Tensor:
        """Take step `index`; the steps are taken in order, each from where the last one ended.

        Args:
            index: Number of the step, from 0.
            noisy: Latents at `levels[index]`; not to be written over before the next step is done.
            velocity: What the network says about them, guided.
            draw: Fresh noise, where the step spreads; None elsewhere.

        Returns:
            Latents at the next level, or the result.
        """
        ...


@dataclass(frozen=True)
class Step:
    """One DDIM step: from one noise level to the next, with every factor in single precision.

    Attributes:
        level: The noise level that it starts from.
        power: Share of signal power where it ends; 1 is the clean latent.
        rescale: Factor on the clean latent, from the scale at `level` to the scale at the end.
        direction: Factor on the noise that the prediction implies.
        spread: Factor on fresh noise.
    """

    level: int
    power: float
    rescale: float
    direction: float
    spread: float


class Ddim:
    """DDIM, first order; with eta it adds noise as it goes; a `Solver`.

    Source: Song et al. 2021, equation 12; dynamic rescale moves the clean latent from one level's
    scale to the next one's.
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
        clean = (signal * noisy - noise * velocity) * step.rescale
        implied = signal * velocity + noise * noisy
        moved = step.power**0.5 * clean + step.direction * implied
        return moved if draw is None else moved + step.spread * draw


@dataclass(frozen=True)
class _Point:
    """Where a step starts or ends; squared, its amplitudes need not sum to 1.

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
        """The logarithm of signal over noise: the time in which multistep solvers are written."""
        if self.signal == 0:
            return -inf
        return inf if self.noise == 0 else log(self.signal / self.noise)

    def clean(self, noisy: Tensor, velocity: Tensor) -> Tensor:
        """Return the clean latent, at scale 1, that noisy latents and their velocity imply."""
        return (self.power**0.5 / self.scale) * noisy - (self.noise / self.scale) * velocity


class Multistep:
    """DPM-Solver++(2M), or UniPC of order 2 where it also corrects; second order; a `Solver`.

    The clean latent is predicted at each level. Between two levels the exact solution weighs that
    prediction exponentially, so a step is `carry * latents + gain * weighted predictions`. UniPC's
    predictor with B2(h) is DPM-Solver++(2M); its corrector goes over the step once more when the
    prediction at its end is known, which costs no call of the network.
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
        self._seen: list[Tensor] = []  # earlier clean predictions, newest first
        self._left: Tensor | None = None  # where the last step started

    def spreads(self, index: int) -> bool:
        """Return whether step `index` adds fresh noise: never."""
        return False

    def step(self, index: int, noisy: Tensor, velocity: Tensor, draw: Tensor | None) -> Tensor:
        """Take step `index`, see `Solver`."""
        self._seen = [self._points[index].clean(noisy, velocity), *self._seen[:2]]
        if self._corrects and self._left is not None:
            noisy = self._move(index - 1, self._left, _corrector(self._widths, index - 1))
        self._left = noisy
        return self._move(index, noisy, _predictor(self._widths, index))

    def _move(self, index: int, start: Tensor, weights: Sequence[float]) -> Tensor:
        """Cross one interval with the newest predictions, weighted; the weights sum to 1."""
        here, there = self._points[index], self._points[index + 1]
        carry = there.noise / here.noise
        gain = there.signal - carry * here.signal
        moved = carry * start
        for weight, clean in zip(weights, self._seen, strict=False):
            moved = moved + (gain * weight) * clean
        return moved


def make_solver(schedule: NoiseSchedule, cfg: SamplerConfig) -> Solver:
    """Return a fresh solver, for one frame or one clip.

    Raises:
        ValueError: An unknown solver, or settings that it cannot work with.
    """
    check_solver(schedule, cfg)
    return SOLVERS[cfg.solver](schedule, cfg)


def check_solver(schedule: NoiseSchedule, cfg: SamplerConfig) -> None:
    """Refuse steps, eta or a solver that cannot be.

    Raises:
        ValueError: One that is out of range, or an eta that the solver does not have.
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
    """Return the levels of a multistep solver: trailing ones, the last of them near the clean end.

    The last step is of first order, since it ends without noise. From where a dozen trailing steps
    leave it, its error outweighs that of the others, so one of them is spent at a low level. Below
    `FEWEST_WITH_LOW_END` none can be spared.

    Raises:
        ValueError: More steps than levels, or none.
    """
    levels, low = trailing_levels(noise_levels, steps), noise_levels // 100
    if steps < FEWEST_WITH_LOW_END or levels[-1] <= low:
        return levels
    return [*trailing_levels(noise_levels, steps - 1), low]


def ddim_steps(schedule: NoiseSchedule, cfg: SamplerConfig) -> list[Step]:
    """Return the DDIM steps of one frame, from noise to the clean latent (or to level 0).

    Source: DDIM equations 12 and 16. In single precision the radicand of `direction` can fall just
    below zero at the first step; it is held at zero, where the published code gives NaN.
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
    noise_share = (1 - after) / float(1 - start[0])
    spread = np.float32(eta * (noise_share * (1 - before / after)) ** 0.5)
    radicand = 1 - np.float32(after) - spread**2
    direction = float(max(radicand, np.float32(0))) ** 0.5
    return Step(level, after, float(np.float32(end[1]) / start[1]), direction, float(spread))


def _predictor(widths: Sequence[float], index: int) -> tuple[float, ...]:
    """Weights of the predictions, newest first, that carry over interval `index`.

    A step that starts or ends at infinity is of first order. So is the one after the first: its
    slope is 0, since what it looks back on is infinitely far away.
    """
    if index == 0 or isinf(widths[index]):
        return (1.0,)
    slope = widths[index] / (2 * widths[index - 1])
    return (1 + slope, -slope)


def _corrector(widths: Sequence[float], index: int) -> tuple[float, ...]:
    """Weights of the predictions, newest first, when the one at the end of the interval is known.

    They integrate the parabola through three predictions, or the line through two, exactly. From
    pure noise on, where the interval is infinite, the prediction hardly changes at first, and
    UniPC's first-order weights stay finite: half of each end.
    """
    width = widths[index]
    if isinf(width):
        return (0.5, 0.5)
    mean = -1 / expm1(-width) - 1 / width  # of time within the interval, from 0 to 1
    mean_square = -1 / expm1(-width) - 2 * mean / width
    if isinf(widths[index - 1]):
        return (mean, 1 - mean)
    past = widths[index - 1] / width
    new = (mean_square + past * mean) / (1 + past)
    old = (mean_square - mean) / (past * (1 + past))
    return (new, 1 - new - old, old)


SOLVERS: Mapping[str, Callable[[NoiseSchedule, SamplerConfig], Solver]] = {
    "ddim": Ddim,
    "dpm++": partial(Multistep, corrects=False),
    "unipc": partial(Multistep, corrects=True),
}
"""By the names that `SamplerConfig.solver` has."""
