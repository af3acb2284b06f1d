"""Run the benchmark: first whether steps are exact, then what they cost."""

import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from v2w_gym.evaluation.checks.bench.report import Exactness, Report, Subject, to_json

from v2w_gym.configs.checks import APPROXIMATE, SEMANTICS, BenchConfig
from v2w_gym.configs.names import lookup
from v2w_gym.evaluation.checks.bench.arms import full_window, with_steps
from v2w_gym.evaluation.checks.bench.exactness import (
    AGES,
    SAMPLE_TOLERANCE,
    TOLERANCE,
    Rounding,
    check_agreement,
    check_rounding,
    steps_compared,
)
from v2w_gym.evaluation.checks.bench.measure import (
    measure_cells,
    measure_horizon,
    measure_latency,
    measure_memory,
)
from v2w_gym.evaluation.checks.bench.models import in_precision, make_model, with_semantics
from v2w_gym.world_models.files import write_text
from v2w_gym.world_models.vid2world.model import Vid2World
from v2w_gym.world_models.vid2world.published.convert import PRECISIONS

WHAT = {"step": "one step of the environment"}


def run_bench(cfg: BenchConfig) -> Report:
    """Measure what is asked for; nothing but exactness is measured unless steps are exact.

    Raises:
        FileNotFoundError: No such checkpoint.
        OSError: The output cannot be written.
        ValueError: A setting that is unknown or out of range, or a device that is not there.
    """
    if cfg.quick:
        cfg = replace(
            cfg, nums=[1, 8], steps=[10], repeats=1, latency=5, every=False, horizon=False
        )
    _check(cfg)
    torch.set_num_threads(cfg.threads)
    precision = lookup(PRECISIONS, cfg.precision, "precision")
    output = None if cfg.output is None else _free_output(Path(cfg.output))
    model = in_precision(in_precision(make_model(cfg), precision), torch.float32)
    for steps in cfg.steps:
        with_steps(model, steps)  # one that is out of range is refused before all the others
    report = _measure(cfg, model, precision)
    if output is not None:
        write_text(output, to_json(report) + "\n")
    return report


def _measure(cfg: BenchConfig, model: Vid2World, precision: torch.dtype) -> Report:
    names = _semantics(cfg, model)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # float32 means float32
        exact = check_exactness(model, names, precision, every=cfg.every)
    report = Report(cfg.what, _subject(cfg, model), exact)
    if not exact.passed:
        return report
    timed = in_precision(model, precision)
    models = {name: with_semantics(timed, name) for name in names}
    return replace(
        report,
        memory=list(measure_memory(models)),
        cells=list(measure_cells(models, cfg)),
        latency=list(measure_latency(models, cfg.latency)),
        horizon=list(measure_horizon(models, cfg.repeats)) if cfg.horizon else [],
    )


def check_exactness(
    model: Vid2World, names: Sequence[str], precision: torch.dtype, *, every: bool
) -> Exactness:
    """Hold steps of every kind against naive ones, in float32 and in a `precision` below it.

    Args:
        model: In float32.
        names: What steps mean.
        precision: What is timed.
        every: See `check_agreement`.
    """
    models = {name: with_semantics(model, name) for name in names}
    agreements = [
        check_agreement(each, name, exact=name not in APPROXIMATE, every=every)
        for name, each in models.items()
    ]
    roundings: list[Rounding] = []
    if precision != torch.float32:
        half = in_precision(model, precision)
        roundings = [
            check_rounding(with_semantics(half, name), reference, name)
            for name, reference in models.items()
            if name not in APPROXIMATE
        ]
    exact = [agreement for agreement in agreements if agreement.exact]
    return Exactness(
        passed=all(agreement.passed for agreement in agreements)
        and all(rounding.passed for rounding in roundings),
        max_relative_error=max((a.relative_error for a in exact), default=None),
        tolerance=TOLERANCE,
        max_sample_error=max((a.sample_error for a in exact), default=None),
        sample_tolerance=SAMPLE_TOLERANCE,
        steps=steps_compared(model.window),
        agreements=agreements,
        roundings=roundings,
    )


def _semantics(cfg: BenchConfig, model: Vid2World) -> list[str]:
    """Return the kinds of step that are asked for, without repetitions."""
    if cfg.semantics is not None:
        return list(dict.fromkeys(cfg.semantics))
    if cfg.checkpoint is None and cfg.size == "full":
        return list(SEMANTICS)
    norm = model.cfg.unet.temporal_norm
    return [name for name, (needed, _) in SEMANTICS.items() if needed == norm]


def _check(cfg: BenchConfig) -> None:
    """Refuse settings with which nothing can be measured.

    Raises:
        ValueError: One that is out of range.
    """
    lookup(WHAT, cfg.what, "what")
    if cfg.window <= len(AGES):
        raise ValueError(f"expected window >= {len(AGES) + 1}, found {cfg.window}")
    for name in ("nums", "steps", "semantics"):
        values = getattr(cfg, name)
        if values is not None and not values:
            raise ValueError(f"expected at least one value of {name}, found none")
    for name in cfg.semantics or ():
        lookup(SEMANTICS, name, "semantics")


def _free_output(output: Path) -> Path:
    """Return where the JSON goes; that it can go there is found out before and not after hours."""
    if output.is_dir():
        raise ValueError(f"expected output to be a file, found a folder at {output}")
    output.parent.mkdir(parents=True, exist_ok=True)
    return output


def _subject(cfg: BenchConfig, model: Vid2World) -> Subject:
    random = f"random weights of size {cfg.size}, seed {cfg.seed}"
    device = torch.device(cfg.device)
    on_gpu = device.type == "cuda"
    state, _ = full_window(model, 1)
    channels, height, width = state.condition.shape[1:]
    return Subject(
        weights=random if cfg.checkpoint is None else cfg.checkpoint,
        network_parameters=sum(weight.numel() for weight in model.unet.parameters()),
        latent=(channels, height, width),
        window=model.window,
        precision=cfg.precision,
        device=torch.cuda.get_device_name(device) if on_gpu else f"cpu ({platform.machine()})",
        threads=cfg.threads,
        torch=torch.__version__,
    )
