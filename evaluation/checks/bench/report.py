"""What a benchmark found, as data and as tables."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from v2w_gym.evaluation.checks.bench.exactness import Agreement, Rounding

LARGE = 10**6
"""Whole numbers from here on are rounded in tables."""


@dataclass(frozen=True)
class Subject:
    """What was measured, and on which machine.

    Attributes:
        weights: Where they come from.
        network_parameters: Weights of the denoising network.
        latent: (C, h, w) of a frame.
        window: Most frames it looks at (T).
        precision: What was timed.
        device: Where.
        threads: CPU threads.
        torch: Version of PyTorch.
    """

    weights: str
    network_parameters: int
    latent: tuple[int, int, int]
    window: int
    precision: str
    device: str
    threads: int
    torch: str


@dataclass(frozen=True)
class Exactness:
    """Whether steps are equal to naive ones.

    Attributes:
        passed: Whether all that should be are.
        max_relative_error: Worst single forward of those, see `Agreement`; None where only
            approximations were asked for.
        tolerance: Largest that passes.
        max_sample_error: Worst sample of those.
        sample_tolerance: Largest that passes.
        steps: Steps of the rollouts, which begin with a few frames each.
        agreements: By semantics, approximations too.
        roundings: By semantics, where half precision is timed.
    """

    passed: bool
    max_relative_error: float | None
    tolerance: float
    max_sample_error: float | None
    sample_tolerance: float
    steps: int
    agreements: Sequence[Agreement]
    roundings: Sequence[Rounding]


@dataclass(frozen=True)
class Cell:
    """One step of both arms, with a full window.

    Attributes:
        semantics: What a step means.
        num_envs: Environments that step together.
        steps: Denoising steps per frame.
        ratio: Naive time over ours.
        frame_forwards: Frames that pass the network per environment, each branch for itself.
        naive_frame_forwards: The same of the naive arm.
        flops: Operations per environment, the decoder's included; see
            `v2w_gym.evaluation.checks.bench.counting`.
        naive_flops: The same of the naive arm.
        seconds: Time of a step of all environments: processor time on a CPU.
        naive_seconds: The same of the naive arm.
        env_frames_per_second: Frames of all environments per second of that time.
    """

    semantics: str
    num_envs: int
    steps: int
    ratio: float
    frame_forwards: float
    naive_frame_forwards: float
    flops: float
    naive_flops: float
    seconds: float
    naive_seconds: float
    env_frames_per_second: float


@dataclass(frozen=True)
class StepLatency:
    """How long single steps of one environment take, in seconds on the clock on the wall.

    Attributes:
        semantics: What a step means.
        steps: Denoising steps per frame.
        samples: Steps that were timed after the first.
        p50: Their median.
        p99: Their 99th percentile, by linear interpolation: close to the longest if they are few.
        first: The first step after a reset.
    """

    semantics: str
    steps: int
    samples: int
    p50: float
    p99: float
    first: float


@dataclass(frozen=True)
class Horizon:
    """A step early in a rollout against one late in it, without an environment around them.

    Attributes:
        semantics: What a step means.
        steps: Denoising steps per frame.
        frames: The frames at which both steps are taken.
        seconds: What they take.
        ratio: The later time over the earlier one.
        bytes: What is remembered there.
    """

    semantics: str
    steps: int
    frames: tuple[int, int]
    seconds: tuple[float, float]
    ratio: float
    bytes: tuple[int, int]


@dataclass(frozen=True)
class Memory:
    """What one rollout with a full window remembers.

    Attributes:
        semantics: What a step means.
        bytes: Measured.
        formula_bytes: Derived from the network's settings.
        ratio: Measured over derived.
    """

    semantics: str
    bytes: int
    formula_bytes: int
    ratio: float


@dataclass(frozen=True)
class Report:
    """Everything that was found; the lists are empty unless steps are exact.

    Attributes:
        what: What was measured.
        subject: On what.
        exact: Whether steps are equal to naive ones.
        cells: Both arms, by semantics, number of environments and denoising steps.
        latency: Single steps.
        memory: Bytes per rollout.
        horizon: Steps early and late in a rollout.
    """

    what: str
    subject: Subject
    exact: Exactness
    cells: Sequence[Cell] = ()
    latency: Sequence[StepLatency] = ()
    memory: Sequence[Memory] = ()
    horizon: Sequence[Horizon] = ()


def to_json(report: Report) -> str:
    """Return what was found as one JSON object."""
    return json.dumps(asdict(report), indent=2, allow_nan=False)


def to_text(report: Report) -> str:
    """Return what was found as tables, one for each part that was measured."""
    subject, exact = report.subject, report.exact
    size = "x".join(map(str, subject.latent))
    verdict = "passed" if exact.passed else "FAILED: no speed is reported"
    if exact.max_relative_error is None:
        verdict = "not asked for, all steps are approximations"
    lines = [
        f"{subject.weights}: {subject.network_parameters / 1e6:.1f} M network weights, latents "
        f"{size}, T = {subject.window}, {subject.precision} on {subject.device}, "
        f"{subject.threads} CPU thread(s), PyTorch {subject.torch}",
        "",
        f"exactness over {exact.steps} steps: {verdict} (single forward "
        f"{_worst(exact.max_relative_error)}, at most {exact.tolerance:.0e}; sample "
        f"{_worst(exact.max_sample_error)}, at most {exact.sample_tolerance:.0e})",
        *_table(exact.agreements),
    ]
    parts = (
        ("half precision, against naive steps in float32", exact.roundings),
        ("steps with a full window", report.cells),
        ("latency of one environment, seconds on the wall", report.latency),
        ("memory of a rollout", report.memory),
        ("early and late in a rollout", report.horizon),
    )
    for title, rows in parts:
        if rows:
            lines += ["", title, *_table(rows)]
    return "\n".join(lines)


def _table(rows: Sequence[Any]) -> list[str]:
    """Return lines with a column for each field."""
    names = [field.name for field in fields(rows[0])]
    cells = [[name.replace("_", " ") for name in names]]
    cells += [[_shown(getattr(row, name)) for name in names] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    return [
        "  " + "  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True))
        for line in cells
    ]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " / ".join(_shown(part) for part in value)
    is_long = isinstance(value, float) or (isinstance(value, int) and value >= LARGE)
    return f"{value:.4g}" if is_long else str(value)


def _worst(error: float | None) -> str:
    return "none" if error is None else f"{error:.1e}"
