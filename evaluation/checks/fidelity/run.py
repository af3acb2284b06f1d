"""Measure how much cheaper ways of sampling change what one world model imagines."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2w_gym.configs.checks import FidelityConfig
from v2w_gym.configs.evaluate import RankConfig
from v2w_gym.evaluation.checks.bench.costs import step_costs
from v2w_gym.evaluation.checks.fidelity.replay import (
    Replay,
    Scenes,
    Variant,
    load_replay,
    load_scenes,
    replay,
    save_replay,
)
from v2w_gym.evaluation.checks.fidelity.report import write_report
from v2w_gym.evaluation.checks.fidelity.result import Fidelity, measure
from v2w_gym.evaluation.checks.fidelity.success import SuccessChange, compare_success
from v2w_gym.evaluation.records.rows import run_identity
from v2w_gym.evaluation.rollout import check_rollouts, run_rollouts
from v2w_gym.judges.loading import load_judge
from v2w_gym.policies.loading import make_policies
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.world_models.loading import load_with
from v2w_gym.world_models.run_folder import RunFolder, hold_folder
from v2w_gym.world_models.vid2world.model import Vid2World

BASELINE, FLOOR, CARD = "baseline", "another seed", "card"
CANDIDATES = {"draft": "draft", "standard": "standard", CARD: CARD}
NAME = re.compile(r"(?!(baseline|another_seed)$)[A-Za-z0-9][A-Za-z0-9._+-]*")
"""A candidate's name is that of a folder, and not that of the baseline or the floor."""


def run_fidelity(cfg: FidelityConfig) -> Fidelity:
    """Imagine what is not imagined yet, compare, and write the results.

    Writes `fidelity.json`, `fidelity.md`, `fidelity.png` and `strip.png`. What each sampler
    imagined is kept in `variants`, so that one more candidate costs only itself.

    Raises:
        BlockingIOError: Another process works in the folder.
        FileNotFoundError: A checkpoint, judge or folder of episodes that does not exist.
        OSError: The folder cannot be written, or the disk is full.
        ValueError: A setting unknown or out of range, or the folder of another run.
    """
    torch.set_num_threads(cfg.threads)
    with hold_folder(Path(cfg.output)):
        return _run(cfg)


def _run(cfg: FidelityConfig) -> Fidelity:
    variants = load_variants(cfg)
    model = variants[0].model
    scenes = load_scenes(cfg, model.robot, model.context_frames)
    horizons = _fitting_horizons(cfg, scenes.steps)
    identity = {"model": model.fingerprint, "seed": cfg.seed, "scenes": scenes.digest}
    with make_policies(cfg.policies, model.robot) as drivers:
        _check_closed_loop(cfg, variants, scenes.task, drivers)
        folder = RunFolder(Path(cfg.output), identity).begin()
        _open_closed_loop(cfg, folder, variants, scenes.task, drivers)
        replays = {v.name: _replayed(folder, v, scenes, cfg.batch_size) for v in variants}
        success = _act(cfg, folder, variants, scenes.task, drivers) if drivers else {}
    costs = {
        model: step_costs(model, [model.cfg.sampler.steps])[0]
        for model in {variant.model for variant in variants}
    }
    found = Fidelity(
        checkpoint=Path(cfg.checkpoint).name if cfg.checkpoint else "the bundled world model",
        task=scenes.task,
        rollouts=len(scenes),
        steps=scenes.steps,
        recorded=scenes.recorded is not None,
        seed=cfg.seed,
        horizons=horizons,
        measured=tuple(
            measure(
                variant,
                costs[variant.model],
                replays[variant.name],
                replays[BASELINE],
                scenes.recorded,
                success.get(variant.name, ()),
            )
            for variant in variants
        ),
    )
    write_report(folder, found, _first_rollout(scenes, replays))
    return found


def load_variants(cfg: FidelityConfig) -> list[Variant]:
    """Return the baseline, the baseline with another seed, then the candidates.

    Raises:
        FileNotFoundError: No such checkpoint.
        ValueError: A candidate without a usable name, or settings that are unknown or do not fit
            the model.
    """
    candidates = cfg.candidates or CANDIDATES
    for name in candidates:
        if not NAME.fullmatch(name):
            raise ValueError(
                "expected a candidate's name to be letters, digits and . _ + - and not 'baseline' "
                f"or 'another_seed', found {name!r}"
            )
    baseline = _load(cfg, {})
    return [
        Variant(BASELINE, baseline, cfg.seed),
        Variant(FLOOR, baseline, cfg.seed + 1),
        *(Variant(name, _load(cfg, choice), cfg.seed) for name, choice in candidates.items()),
    ]


def _load(cfg: FidelityConfig, choice: str | Mapping[str, Any]) -> Vid2World:
    """Load the model with the baseline's sampler, changed by settings, or that of a preset."""
    if isinstance(choice, str):
        preset, sampler = (None if choice == CARD else choice), {}
    else:
        preset, sampler = cfg.preset, {**cfg.sampler, **choice}
    model = load_with(replace(cfg, preset=preset, sampler=sampler))
    assert isinstance(model, Vid2World)
    return model


def _replayed(folder: Path, variant: Variant, scenes: Scenes, batch_size: int) -> Replay:
    """Return what a variant imagines, from its folder if that has it."""
    identity = {"model": variant.model.fingerprint, "seed": variant.seed}
    path = RunFolder(_folder_of(folder, variant), identity).begin() / "replay.npz"
    if not path.exists():
        save_replay(path, replay(variant, scenes, batch_size))
    return load_replay(path)


def _check_closed_loop(
    cfg: FidelityConfig, variants: Sequence[Variant], task: str, drivers: Sequence[RobotPolicy]
) -> None:
    """Find what cannot be before anything is imagined or written."""
    if drivers:
        run = _closed_loop(cfg, Path(cfg.output), variants[0], task)
        model = variants[0].model
        check_rollouts(run, model, drivers, load_judge(cfg.judge, model.robot))


def _open_closed_loop(
    cfg: FidelityConfig,
    folder: Path,
    variants: Sequence[Variant],
    task: str,
    drivers: Sequence[RobotPolicy],
) -> None:
    """Refuse other policies or starts than those of an earlier run before anything is imagined."""
    if drivers:
        judge = load_judge(cfg.judge, variants[0].model.robot)
        for variant in _acting(variants):
            run = _closed_loop(cfg, folder, variant, task)
            identity = run_identity(run, variant.model, drivers, judge)
            RunFolder(Path(run.output), identity).begin()


def _act(
    cfg: FidelityConfig,
    folder: Path,
    variants: Sequence[Variant],
    task: str,
    drivers: Sequence[RobotPolicy],
) -> dict[str, tuple[SuccessChange, ...]]:
    """Let policies act under every sampler: same starts, same noise."""
    judge = load_judge(cfg.judge, variants[0].model.robot)
    runs = {
        variant.name: run_rollouts(
            _closed_loop(cfg, folder, variant, task), variant.model, drivers, judge
        )
        for variant in _acting(variants)
    }
    return {name: compare_success(rows, runs[BASELINE]) for name, rows in runs.items()}


def _acting(variants: Sequence[Variant]) -> list[Variant]:
    """Return the variants that policies act in: all but the floor."""
    return [variant for variant in variants if variant.name != FLOOR]


def _closed_loop(cfg: FidelityConfig, folder: Path, variant: Variant, task: str) -> RankConfig:
    return RankConfig(
        output=str(_folder_of(folder, variant) / "closed_loop"),
        tasks=[task],
        starts=cfg.starts,
        batch_size=cfg.batch_size,
    )


def _folder_of(folder: Path, variant: Variant) -> Path:
    return folder / "variants" / variant.name.replace(" ", "_")


def _first_rollout(scenes: Scenes, replays: Mapping[str, Replay]) -> dict[str, NDArray[np.uint8]]:
    """Return what there is of the first rollout, (T + 1, H, W, 3) each, by name."""
    recorded = {} if scenes.recorded is None else {"recorded": scenes.recorded[0]}
    return {**recorded, **{name: found.frames[0] for name, found in replays.items()}}


def _fitting_horizons(cfg: FidelityConfig, steps: int) -> tuple[int, ...]:
    fitting = tuple(horizon for horizon in cfg.horizons if 1 <= horizon <= steps)
    if not fitting:
        raise ValueError(f"expected at least one horizon from 1 to {steps}, found {cfg.horizons}")
    return fitting
