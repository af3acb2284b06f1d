"""Run the benchmark: first whether steps are exact, then what they cost."""

import json
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from v2w_gym.configs.checks import SEMANTICS, BenchConfig
from v2w_gym.configs.tasks import tasks_of
from v2w_gym.evaluation.checks.bench.baseline import naive_next
from v2w_gym.evaluation.checks.bench.costs import step_costs
from v2w_gym.evaluation.checks.bench.exactness import Row, check_exactness
from v2w_gym.evaluation.checks.bench.models import (
    a_move,
    device_of,
    full_window,
    in_precision,
    make_model,
    random_frames,
    with_semantics,
    with_steps,
)
from v2w_gym.vector_env import Vid2WorldVectorEnv
from v2w_gym.world_models.captured_graph import CAPTURE_AFTER
from v2w_gym.world_models.files import check_writable, write_text
from v2w_gym.world_models.vid2world.model import Vid2World
from v2w_gym.world_models.vid2world.published.convert import PRECISIONS

Work: TypeAlias = Callable[[], object]
Models: TypeAlias = Mapping[str, Vid2World]
"""By semantics, in the precision that is timed."""

TYPICAL_STEPS = 10
"""Denoising steps where one number of them stands for all."""
OURS_PER_TURN = 3
"""Steps of the environment for each step of the baseline, which takes many times as long."""
EARLY, LATE = 2, 20
"""Windows after which a step must cost the same."""
HORIZON_TURNS = 3
"""For how often ours and the baseline take turns, how often early and late steps do."""


def run_bench(cfg: BenchConfig) -> dict[str, Any]:
    """Measure what is asked for; nothing but exactness is measured unless steps are exact.

    Returns:
        JSON values: `what` was measured, the `subject`, whether it is `exact`, and lists of rows,
        empty unless it is: `cells`, `latency`, `memory` and `horizon`.

    Raises:
        FileNotFoundError: No such checkpoint.
        OSError: The output cannot be written.
        ValueError: A setting out of range, or a device that is not there.
    """
    if cfg.quick:
        cfg = replace(
            cfg, nums=[1, 8], steps=[10], repeats=1, latency=5, every=False, horizon=False
        )
    if cfg.output is not None:
        _check_output(Path(cfg.output))
    torch.set_num_threads(cfg.threads)
    precision = PRECISIONS[cfg.precision]
    model = in_precision(in_precision(make_model(cfg), precision), torch.float32)
    for steps in cfg.steps:
        with_steps(model, steps)  # one that is out of range is refused before all the others
    report = _measure(cfg, model, precision)
    if cfg.output is not None:
        write_text(Path(cfg.output), to_json(report) + "\n")
    return report


def to_json(report: Mapping[str, Any]) -> str:
    """Return what was found as one JSON object."""
    return json.dumps(report, indent=2, allow_nan=False)


def to_text(report: Mapping[str, Any]) -> str:
    """Return what was found as tables, one for each part that was measured."""
    subject, exact = report["subject"], report["exact"]
    verdict = "passed" if exact["passed"] else "FAILED: no speed is reported"
    if exact["max_relative_error"] is None:
        verdict = "not asked for, all steps are approximations"
    title = (
        f"exactness over {exact['steps']} steps: {verdict} (single forward at most "
        f"{exact['tolerance']:.0e}, sample at most {exact['sample_tolerance']:.0e})"
    )
    parts = {
        title: exact["agreements"],
        "half precision, compared with the baseline in float32": exact["roundings"],
        "steps with a full window": report["cells"],
        "latency of one environment, seconds on the wall": report["latency"],
        "memory of a rollout": report["memory"],
        "early and late in a rollout": report["horizon"],
    }
    tables = [f"{title}\n{_table(rows)}" for title, rows in parts.items() if rows]
    return "\n\n".join([", ".join(f"{k}: {v}" for k, v in subject.items()), *tables])


def measure_memory(models: Models) -> Iterator[Row]:
    """Return the bytes of one rollout with a full window."""
    for name, model in models.items():
        yield {"semantics": name, "bytes": full_window(model, 1)[0].nbytes}


def measure_cells(models: Models, cfg: BenchConfig) -> Iterator[Row]:
    """Time ours and the baseline for every number of environments and of denoising steps.

    Counts are those of one environment, see `Cost`; seconds are those of a step of all.
    """
    baselines = {_baseline_of(model): model for model in models.values()}
    costs = {name: step_costs(model, cfg.steps) for name, model in models.items()}
    costs |= {name: step_costs(m, cfg.steps, naive_next) for name, m in baselines.items()}
    cells = [(num, index) for num in cfg.nums for index in range(len(cfg.steps))]
    for num, index in tqdm(cells, "speed", unit="cell", leave=False):
        steps, turn = cfg.steps[index], []
        for name, model in baselines.items():
            turn.append((name, naive_work(with_steps(model, steps), num)))
        for name, model in models.items():
            turn += [(name, environment_work(with_steps(model, steps), num))] * OURS_PER_TURN
        times = fastest(turn, cfg.repeats, torch.device(cfg.device))
        for name, model in models.items():
            ours, naive = costs[name][index], costs[_baseline_of(model)][index]
            yield {
                "semantics": name,
                "num_envs": num,
                "steps": steps,
                "ratio": times[_baseline_of(model)] / times[name],
                "frame_forwards": ours.frame_forwards,
                "naive_frame_forwards": naive.frame_forwards,
                "flops": ours.flops,
                "naive_flops": naive.flops,
                "seconds": times[name],
                "naive_seconds": times[_baseline_of(model)],
                "env_frames_per_second": num / times[name],
            }


def measure_latency(models: Models, samples: int) -> Iterator[Row]:
    """Time single steps of one environment: the first after a reset, and those that follow."""
    for name, model in models.items():
        step = environment_work(with_steps(model, TYPICAL_STEPS), 1)
        bar = tqdm(range(samples + 1), f"latency, {name}", unit="step", leave=False)
        first, *rest = [seconds(step, device_of(model), time.perf_counter) for _ in bar]
        p50, p99 = map(float, np.percentile(rest, [50, 99]))
        counts = {"steps": TYPICAL_STEPS, "samples": samples}
        yield {"semantics": name, **counts, "p50": p50, "p99": p99, "first": first}


def measure_horizon(models: Models, repeats: int) -> Iterator[Row]:
    """Compare a step early in a rollout with one late in it, without an environment."""
    for name, model in models.items():
        frames, action = (EARLY * model.window, LATE * model.window), a_move(model.robot)[None]
        state, noise = full_window(model, 1)
        turn, sizes = [], []
        for number in tqdm(range(model.window, frames[1] + 1), f"horizon, {name}", leave=False):
            state = with_steps(model, 1).step(state, action, noise)
            noise = noise.earlier(-1)
            if number in frames:
                typical = with_steps(model, TYPICAL_STEPS)
                turn.append((str(number), partial(typical.step, state, action, noise)))
                sizes.append(state.nbytes)
        early, late = fastest(turn, repeats * HORIZON_TURNS, device_of(model)).values()
        yield {
            "semantics": name,
            "steps": TYPICAL_STEPS,
            "frames": frames,
            "seconds": (early, late),
            "ratio": late / early,
            "bytes": sizes,
        }


def environment_work(model: Vid2World, num_envs: int) -> Work:
    """Return a step of environments that share the model, each with a full window, all warm.

    A GPU captures its graph in the first step, which has enough denoising steps for that.
    """
    model = model.with_window(model.window, model.window - 1)
    task = next(iter(tasks_of(model.robot.name)))
    actions = np.stack([a_move(model.robot)] * num_envs)
    with TemporaryDirectory() as folder:
        start = f"{folder}/frames.npy"
        np.save(start, random_frames(model.robot, model.window - 1))
        for warm in (with_steps(model, CAPTURE_AFTER), model):
            envs = Vid2WorldVectorEnv(num_envs, -1, warm, task=task, start=start, judge=None)
            envs.reset(seed=0)
            envs.step(actions)
        envs.reset(seed=0)
    return partial(envs.step, actions)


def naive_work(model: Vid2World, num_envs: int) -> Work:
    """Return a step of the baseline, with a full window, and the decoding of its frames."""
    state, noise = full_window(model, num_envs)
    state = replace(state, cache=())  # nobody reads it: at full size it is a gigabyte a rollout
    actions = torch.from_numpy(np.stack([a_move(model.robot)] * num_envs))
    naive_next(with_steps(model, 1), state, actions, noise)

    @torch.inference_mode()
    def work() -> None:
        model.frames(naive_next(model, state, actions, noise))

    return work


def fastest(
    turn: Sequence[tuple[str, Work]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Return the least time of each name in `turn`, which is taken `repeats` times.

    All take turns, so that what else the machine does meets all of them.
    """
    least: dict[str, float] = {}
    for name, work in list(turn) * repeats:
        least[name] = min(least.get(name, inf), seconds(work, device))
    return least


def seconds(
    work: Work, device: torch.device, clock: Callable[[], float] = time.process_time
) -> float:
    """Return what `work` takes; on a GPU by the clock on the wall, until its last kernel is done.

    Processor time, on a CPU, leaves out what other processes do to a shared machine.
    """
    if device.type != "cuda":
        began = clock()
        work()
        return clock() - began
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    work()
    torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _measure(cfg: BenchConfig, model: Vid2World, precision: torch.dtype) -> dict[str, Any]:
    names = _semantics(cfg, model)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # float32 means float32
        exact = check_exactness(model, names, precision, every=cfg.every)
    timed = in_precision(model, precision)
    models = {name: with_semantics(timed, name) for name in names if exact["passed"]}
    return {
        "what": cfg.what,
        "subject": _subject(cfg, model),
        "exact": exact,
        "cells": list(measure_cells(models, cfg)) if models else [],
        "latency": list(measure_latency(models, cfg.latency)),
        "memory": list(measure_memory(models)),
        "horizon": list(measure_horizon(models, cfg.repeats)) if cfg.horizon else [],
    }


def _check_output(path: Path) -> None:
    """Find what cannot be written before hours of measuring."""
    if path.is_dir():
        raise ValueError(f"expected output to be a file, found a folder at {path}")
    check_writable(path.parent)


def _semantics(cfg: BenchConfig, model: Vid2World) -> list[str]:
    if cfg.semantics is not None:
        return cfg.semantics
    norms = model.cfg.unet.temporal_norm
    every = cfg.checkpoint is None and cfg.size == "full"
    return [name for name, (needed, _) in SEMANTICS.items() if every or needed == norms]


def _baseline_of(model: Vid2World) -> str:
    """Return the name of a model's baseline: its norms decide it."""
    return f"naive, {model.cfg.unet.temporal_norm} norms"


def _subject(cfg: BenchConfig, model: Vid2World) -> Row:
    device = torch.device(cfg.device)
    on_gpu = device.type == "cuda"
    return {
        "weights": cfg.checkpoint or f"random weights of size {cfg.size}, seed {cfg.seed}",
        "network_parameters": sum(weight.numel() for weight in model.unet.parameters()),
        "latent": tuple(full_window(model, 1)[0].condition.shape[1:]),
        "window": model.window,
        "precision": cfg.precision,
        "device": torch.cuda.get_device_name(device) if on_gpu else f"cpu ({platform.machine()})",
        "threads": cfg.threads,
        "torch": torch.__version__,
    }


def _table(rows: Sequence[Row]) -> str:
    """Return a column for each name; floats and long numbers are rounded."""
    table = pd.DataFrame(rows)
    long = [name for name in table.select_dtypes("int") if table[name].max() >= 10**6]
    table = table.astype(dict.fromkeys(long, float))
    return table.to_string(index=False, float_format="{:.4g}".format)
