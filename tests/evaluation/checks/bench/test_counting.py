"""Frames through the network are counted exactly, and so are operations."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from v2w_gym.evaluation.checks.bench.arms import (
    EnvironmentArm,
    NaiveArm,
    a_move,
    full_window,
    with_steps,
    write_recording,
)
from v2w_gym.evaluation.checks.bench.counting import Cost, frame_forwards, naive_costs, step_cost

from v2w_gym.configs.checks import BENCH_SAMPLER, BENCH_SIZES
from v2w_gym.env import Vid2WorldEnv
from v2w_gym.evaluation.checks.bench.models import with_semantics
from v2w_gym.world_models.vid2world.model import Vid2World

T = 4
CLOSED_FORMS = {
    "rolling": lambda steps: 2 * steps + 1,
    "window": lambda steps: 2 * steps + T - 1,
    "pooled": lambda steps: 2 * steps * T,
    "frozen": lambda steps: 2 * steps + T - 1,
}


@pytest.mark.parametrize("steps", [1, 4, 10])
@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_frames_that_pass_the_network_in_a_step_of_the_environment(
    tiny, tmp_path, name, steps
) -> None:
    model = with_steps(with_semantics(tiny, name), steps)
    arm = EnvironmentArm(model, 2, write_recording(model, tmp_path))
    for _ in range(3):
        with frame_forwards(arm.model) as passed:
            arm.step()
        assert passed.count == 2 * CLOSED_FORMS[name](steps)


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_frames_are_counted_without_values_too(tiny, name) -> None:
    model = with_steps(with_semantics(tiny, name), 7)
    assert step_cost(model).frame_forwards == CLOSED_FORMS[name](7)


def test_no_frame_of_the_history_passes_while_the_window_grows(tiny, tmp_path) -> None:
    model = with_steps(with_semantics(tiny, "window"), 5)
    np.save(tmp_path / "frame.npy", np.zeros((64, 64, 3), np.uint8))
    env = Vid2WorldEnv(model, start=str(tmp_path / "frame.npy"))
    env.reset(seed=0)
    counts = []
    for _ in range(T + 1):
        with frame_forwards(model) as passed:
            env.step(a_move(model.robot))
        counts.append(passed.count)
    assert counts == [2 * 5 + 1] * (T - 2) + [2 * 5 + T - 1] * 3


@pytest.mark.parametrize("steps", [1, 4])
def test_a_naive_step_passes_the_whole_window_twice_in_each_denoising_step(tiny, steps) -> None:
    model = with_steps(with_semantics(tiny, "window"), steps)
    arm = NaiveArm(model, 3)
    with frame_forwards(model) as passed:
        arm.step()
    assert passed.count == 3 * 2 * steps * T


@pytest.mark.parametrize("name", ["rolling", "window"])
def test_operations_without_values_are_those_with_values(tiny, name) -> None:
    model = with_steps(with_semantics(tiny, name), 3)
    state, noise = full_window(model, 1)
    with FlopCounterMode(display=False) as counter:
        model.render(model.step(state, a_move(model.robot)[None], noise))
    assert step_cost(model).flops == counter.get_total_flops()


def test_operations_of_naive_steps(tiny) -> None:
    model = with_steps(with_semantics(tiny, "window"), 3)
    arm = NaiveArm(model, 1)
    with FlopCounterMode(display=False) as counter:
        arm.step()
    cost = naive_costs(model, [3])[3]
    assert (cost.frame_forwards, cost.flops) == (2 * 3 * T, counter.get_total_flops())


def test_operations_of_the_published_network() -> None:
    """50 steps: 101 frame-forwards of 0.807 TFLOP, less what is done once, and the decoder's 1.56.

    Found in an independent count: 72.9 TFLOP. Each step adds as much as the second one does.
    """
    first, second = (published_cost(steps) for steps in (1, 2))
    assert first.frame_forwards + 49 * (second.frame_forwards - first.frame_forwards) == 101
    flops = first.flops + 49 * (second.flops - first.flops)
    assert flops / 1e12 == pytest.approx(72.9, abs=0.05)


def published_cost(steps: int) -> Cost:
    sampler = replace(BENCH_SAMPLER, steps=steps, history="rolling")
    with torch.device("meta"):
        model = Vid2World(replace(BENCH_SIZES["full"], sampler=sampler))
    return step_cost(model)
