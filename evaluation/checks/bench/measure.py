"""Measure steps that have been found exact: time, latency, memory."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import torch
from tqdm import tqdm
from v2w_gym.evaluation.checks.bench.memory import bytes_per_rollout
from v2w_gym.evaluation.checks.bench.report import Cell, Horizon, Memory, StepLatency
from v2w_gym.evaluation.checks.bench.timing import fastest, percentiles, wall_seconds

from v2w_gym.configs.checks import BenchConfig
from v2w_gym.evaluation.checks.bench.arms import (
    EnvironmentArm,
    NaiveArm,
    a_move,
    full_window,
    with_steps,
    write_recording,
)
from v2w_gym.evaluation.checks.bench.counting import Cost, naive_costs, step_costs
from v2w_gym.world_models.base import FrameNoise, RolloutState
from v2w_gym.world_models.captured_graph import CAPTURE_AFTER
from v2w_gym.world_models.vid2world.model import Vid2World

Arm: TypeAlias = EnvironmentArm | NaiveArm
Models: TypeAlias = Mapping[str, Vid2World]
"""By semantics, in the precision that is timed."""

TYPICAL_STEPS = 10
"""Denoising steps where one number of them stands for all."""
WARM_UP = 2
"""Steps before anything is timed: a GPU captures its graph in the first and replays it after."""
OURS_PER_TURN = 3
"""Steps of the environment for each naive step, which takes many times as long."""
EARLY, LATE = 2, 20
"""Windows after which a step must cost the same."""
HORIZON_TURNS = 3
"""For how often both arms take turns, how often early and late steps do: they differ by less."""


def measure_cells(models: Models, cfg: BenchConfig) -> Iterator[Cell]:
    """Time both arms for every number of environments and of denoising steps."""
    cells = tqdm(total=len(cfg.nums) * len(cfg.steps), desc="speed", unit="cell", leave=False)
    with cells, TemporaryDirectory() as folder:
        costs = _costs(models, cfg.steps)
        for num_envs in cfg.nums:
            arms = _make_arms(models, num_envs, Path(folder))
            for steps in cfg.steps:
                times = _take_turns(arms, steps, cfg)
                for name, model in models.items():
                    naive = _naive(model)
                    yield Cell(
                        semantics=name,
                        num_envs=num_envs,
                        steps=steps,
                        ratio=times[naive] / times[name],
                        frame_forwards=costs[name][steps].frame_forwards,
                        naive_frame_forwards=costs[naive][steps].frame_forwards,
                        flops=costs[name][steps].flops,
                        naive_flops=costs[naive][steps].flops,
                        seconds=times[name],
                        naive_seconds=times[naive],
                        env_frames_per_second=num_envs / times[name],
                    )
                cells.update()


def measure_latency(models: Models, samples: int) -> Iterator[StepLatency]:
    """Time single steps of one environment: the first after a reset, and those that follow."""
    with TemporaryDirectory() as folder:
        for name, model in models.items():
            arm = EnvironmentArm(model, 1, write_recording(model, Path(folder)))
            arm.use_steps(TYPICAL_STEPS)
            for _ in range(WARM_UP):
                arm.step()
            arm.reset()
            first = wall_seconds(arm.step, _device(model))
            rest = [
                wall_seconds(arm.step, _device(model))
                for _ in tqdm(range(samples), f"latency, {name}", unit="step", leave=False)
            ]
            p50, p99 = percentiles(rest)
            yield StepLatency(name, TYPICAL_STEPS, samples, p50, p99, first)


def measure_memory(models: Models) -> Iterator[Memory]:
    """Hold what is remembered of one rollout against the formula, where there is a memory."""
    for name, model in models.items():
        state, _ = full_window(model, 1)
        if not state.cache:
            continue
        channels, height, width = state.condition.shape[1:]
        number = model.unet.conv_in.weight.element_size()
        latent = channels, height, width
        derived = bytes_per_rollout(model.cfg, latent, model.robot.action_size, number)
        yield Memory(name, state.nbytes, derived, state.nbytes / derived)


def measure_horizon(models: Models, repeats: int) -> Iterator[Horizon]:
    """Hold a step early in a rollout against one late in it; both take turns."""
    for name, model in models.items():
        frames = EARLY * model.window, LATE * model.window
        early, late = _rollouts_at(frames, model, name)
        typical = with_steps(model, TYPICAL_STEPS)
        turn = [
            ("early", partial(_step, typical, *early)),
            ("late", partial(_step, typical, *late)),
        ]
        times = fastest(turn, repeats * HORIZON_TURNS, _device(model))
        seconds = times["early"], times["late"]
        sizes = early[0].nbytes, late[0].nbytes
        yield Horizon(name, TYPICAL_STEPS, frames, seconds, seconds[1] / seconds[0], sizes)


def _make_arms(models: Models, num_envs: int, folder: Path) -> dict[str, Arm]:
    """Return both arms by name: environments by semantics, naive ones by the norms they need."""
    arms: dict[str, Arm] = {_naive(model): NaiveArm(model, num_envs) for model in models.values()}
    for name, model in models.items():
        arms[name] = EnvironmentArm(model, num_envs, write_recording(model, folder))
    return arms


def _take_turns(arms: Mapping[str, Arm], steps: int, cfg: BenchConfig) -> dict[str, float]:
    """Return the least time of a step of each arm, in seconds, once all are warm."""
    turn = []
    for name, arm in arms.items():
        arm.use_steps(CAPTURE_AFTER if isinstance(arm, EnvironmentArm) else 1)
        for _ in range(WARM_UP):
            arm.step()
        arm.use_steps(steps)
        turn += [(name, arm.step)] * (OURS_PER_TURN if isinstance(arm, EnvironmentArm) else 1)
    return fastest(turn, cfg.repeats, torch.device(cfg.device))


def _costs(models: Models, steps: list[int]) -> dict[str, dict[int, Cost]]:
    """Return what a step of each arm costs; it does not depend on who steps together."""
    costs: dict[str, dict[int, Cost]] = {}
    for name, model in models.items():
        costs[name] = step_costs(model, steps)
        if _naive(model) not in costs:
            costs[_naive(model)] = naive_costs(model, steps)
    return costs


def _rollouts_at(
    frames: tuple[int, int], model: Vid2World, name: str
) -> list[tuple[RolloutState, FrameNoise]]:
    """Return a rollout that has just these numbers of frames, by turns."""
    state, noise = full_window(model, 1)
    action, lead, reached = a_move(model.robot)[None], with_steps(model, 1), []
    for number in tqdm(range(model.window, frames[-1] + 1), f"horizon, {name}", leave=False):
        state = lead.step(state, action, noise)
        noise = noise.earlier(-1)
        if number in frames:
            reached.append((state, noise))
    return reached


def _step(model: Vid2World, state: RolloutState, noise: FrameNoise) -> None:
    model.render(model.step(state, a_move(model.robot)[None], noise))


def _naive(model: Vid2World) -> str:
    return f"naive, {model.cfg.unet.temporal_norm} norms"


def _device(model: Vid2World) -> torch.device:
    return model.unet.conv_in.weight.device
