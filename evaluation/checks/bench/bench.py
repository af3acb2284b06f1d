"""Run the benchmark: first whether steps are exact, then what they cost."""

import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
import torch
from tqdm import tqdm

from v2w_gym.configs.checks import SEMANTICS, BenchConfig
from v2w_gym.configs.tasks import tasks_of
from v2w_gym.evaluation.checks.bench.baseline import naive_next
from v2w_gym.evaluation.checks.bench.costs import step_costs
from v2w_gym.evaluation.checks.bench.exactness import Row, check_exactness
from v2w_gym.evaluation.checks.bench.models import (
    full_window,
    make_model,
    random_frames,
    same_moves,
    with_semantics,
    with_steps,
)
from v2w_gym.evaluation.compare.writing import table_of
from v2w_gym.vector_env import Vid2WorldVectorEnv
from v2w_gym.world_models.captured_graph import CAPTURE_AFTER
from v2w_gym.world_models.vid2world.model import Vid2World

Work: TypeAlias = Callable[[], object]

TYPICAL_STEPS = 10
"""Number of denoising steps in measurements with one number only."""
OURS_PER_TURN = 3
"""Steps of the environment for each step of the baseline, which takes many times as long."""


def run_bench(cfg: BenchConfig) -> dict[str, Any]:
    """Check that steps are exact, and if so, measure what they cost.

    Returns:
        JSON values: `what` was measured, the `subject`, whether it is `exact`, and lists of rows,
        empty unless it is: `cells`, `latency` and `memory`.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: A setting out of range, or a device that is not there.
    """
    if cfg.quick:
        cfg = replace(cfg, nums=[1, 8], steps=[10], repeats=1, latency=5)
    torch.set_num_threads(cfg.threads)
    model = make_model(cfg).with_dtype(cfg.precision)
    for steps in cfg.steps:
        with_steps(model, steps)  # refuse a number out of range before anything is measured
    norms, all_norms = model.cfg.unet.temporal_norm, cfg.checkpoint is None and cfg.size == "full"
    own = [name for name, (norm, _) in SEMANTICS.items() if all_norms or norm == norms]
    names, reference = cfg.semantics or own, model.with_dtype("float32")
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # float32 means float32
        exact = check_exactness(reference, names, quick=cfg.quick)
    models = {name: with_semantics(model, name) for name in names if exact["passed"]}
    return {
        "what": cfg.what,
        "subject": _subject(cfg, model),
        "exact": exact,
        "cells": list(measure_cells(models, cfg)),
        "latency": [{"semantics": n, **measure_latency(m, cfg)} for n, m in models.items()],
        "memory": [
            {"semantics": n, "bytes": full_window(m, 1)[0].nbytes} for n, m in models.items()
        ],
    }


def to_text(report: Mapping[str, Any]) -> str:
    """Return the results as tables, one for each measured part."""
    exact = report["exact"]
    verdict = "passed" if exact["passed"] else "FAILED: no speed is reported"
    limits = f"{exact['tolerance']:.0e}, sample at most {exact['sample_tolerance']:.0e}"
    title = f"exactness over {exact['steps']} steps: {verdict} (single forward at most {limits})"
    parts = {
        title: exact["agreements"],
        "steps with a full window": report["cells"],
        "latency of one environment, seconds on the wall": report["latency"],
        "memory of a rollout": report["memory"],
    }
    subject = ", ".join(f"{name}: {value}" for name, value in report["subject"].items())
    return "\n\n".join([subject, *(f"{title}\n{table_of(r)}" for title, r in parts.items() if r)])


def measure_cells(models: Mapping[str, Vid2World], cfg: BenchConfig) -> Iterator[Row]:
    """Time ours and the baseline for every number of environments and of denoising steps.

    Counts are those of one environment, see `step_costs`; seconds are those of a step of all.
    """
    naive = {f"naive, {model.cfg.unet.temporal_norm} norms": model for model in models.values()}
    costs = {name: step_costs(model, cfg.steps) for name, model in models.items()}
    costs |= {name: step_costs(model, cfg.steps, naive_next) for name, model in naive.items()}
    cells = [(num, i, steps) for num in cfg.nums for i, steps in enumerate(cfg.steps)]
    for num, i, steps in tqdm(cells if models else [], "speed", unit="cell", leave=False):
        turn = [(name, naive_work(with_steps(model, steps), num)) for name, model in naive.items()]
        for name, model in models.items():
            turn += [(name, environment_work(with_steps(model, steps), num))] * OURS_PER_TURN
        times = fastest(turn, cfg.repeats, torch.device(cfg.device))
        for name, model in models.items():
            baseline = f"naive, {model.cfg.unet.temporal_norm} norms"
            yield {
                "semantics": name,
                "num_envs": num,
                "steps": steps,
                "ratio": times[baseline] / times[name],
                **costs[name][i],
                **{f"naive_{what}": count for what, count in costs[baseline][i].items()},
                "seconds": times[name],
                "naive_seconds": times[baseline],
                "env_frames_per_second": num / times[name],
            }


def measure_latency(model: Vid2World, cfg: BenchConfig) -> Row:
    """Time single steps of one environment: the first after a reset, and those that follow."""
    step = environment_work(with_steps(model, TYPICAL_STEPS), 1)
    bar = tqdm(range(cfg.latency + 1), "latency", unit="step", leave=False)
    first, *rest = [seconds(step, model.device, time.perf_counter) for _ in bar]
    p50, p99 = map(float, np.percentile(rest, [50, 99]))
    return {"steps": TYPICAL_STEPS, "samples": cfg.latency, "p50": p50, "p99": p99, "first": first}


def environment_work(model: Vid2World, num_envs: int) -> Work:
    """Return a step of environments that share the model, each with a full window, all warm.

    A GPU captures its graph in the first step, which has enough denoising steps for that.
    """
    model = model.with_window(model.window, model.window - 1)
    task = next(iter(tasks_of(model.robot.name)))
    actions = same_moves(model.robot, num_envs)
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
    state = replace(state, cache=())  # unused here, and a gigabyte per rollout at full size
    given = state, same_moves(model.robot, num_envs), noise
    naive_next(with_steps(model, 1), *given)  # warm
    return torch.inference_mode()(lambda: model.frames(naive_next(model, *given)))


def fastest(
    turn: Sequence[tuple[str, Work]], repeats: int, device: torch.device
) -> dict[str, float]:
    """Return the shortest time of each name in `turn`, over `repeats` turns.

    All take turns, so that other load on the machine affects all of them.
    """
    least: dict[str, float] = {}
    for name, work in list(turn) * repeats:
        least[name] = min(least.get(name, inf), seconds(work, device))
    return least


def seconds(
    work: Work, device: torch.device, clock: Callable[[], float] = time.process_time
) -> float:
    """Return the time that `work` takes; on a GPU, the wall time until its last kernel is done.

    On a CPU, processor time leaves out other processes of a shared machine.
    """
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
        clock = time.perf_counter
    began = clock()
    work()
    if on_gpu:
        torch.cuda.synchronize(device)
    return clock() - began


def _subject(cfg: BenchConfig, model: Vid2World) -> Row:
    on_gpu = torch.device(cfg.device).type == "cuda"
    gpu = torch.cuda.get_device_name(cfg.device) if on_gpu else ""
    return {
        "weights": cfg.checkpoint or f"random weights of size {cfg.size}, seed {cfg.seed}",
        "network_parameters": sum(weight.numel() for weight in model.unet.parameters()),
        "latent": tuple(full_window(model, 1)[0].condition.shape[1:]),
        "window": model.window,
        "precision": cfg.precision,
        "device": gpu or f"cpu ({platform.machine()})",
        "threads": cfg.threads,
        "torch": torch.__version__,
    }
