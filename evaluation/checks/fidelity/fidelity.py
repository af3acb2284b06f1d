"""Measure how much cheaper ways of sampling change what one world model imagines."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from v2w_gym.configs.checks import FidelityConfig
from v2w_gym.configs.evaluate import RankConfig
from v2w_gym.evaluation.checks.bench.costs import Cost, step_costs
from v2w_gym.evaluation.checks.fidelity.change import (
    SuccessChange,
    compare_success,
    compare_with_recording,
    measure_distance,
)
from v2w_gym.evaluation.checks.fidelity.imagined import (
    Imagined,
    Scenes,
    Variant,
    imagine,
    load_imagined,
    load_scenes,
    save_imagined,
)
from v2w_gym.evaluation.checks.fidelity.report import Fidelity, Measured, write_report
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
    with make_policies(cfg.policies, model.robot) as policies:
        success, imagined = _compare(cfg, variants, scenes, policies, identity)
    models = {variant.model for variant in variants}
    costs = {model: step_costs(model, [model.cfg.sampler.steps])[0] for model in models}
    measured = [
        measure(variant, costs[variant.model], imagined, scenes, success.get(variant.name, ()))
        for variant in variants
    ]
    found = Fidelity(
        checkpoint=Path(cfg.checkpoint).name if cfg.checkpoint else "the bundled world model",
        task=scenes.task,
        rollouts=len(scenes.frames),
        steps=scenes.steps,
        recorded=scenes.recorded is not None,
        seed=cfg.seed,
        horizons=horizons,
        measured=tuple(measured),
    )
    first = {} if scenes.recorded is None else {"recorded": scenes.recorded[0]}
    first |= {name: each.frames[0] for name, each in imagined.items()}
    write_report(Path(cfg.output), found, first)
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


def measure(
    variant: Variant,
    cost: Cost,
    imagined: Mapping[str, Imagined],
    scenes: Scenes,
    success: tuple[SuccessChange, ...],
) -> Measured:
    """Gather what was found of one sampler.

    Args:
        variant: The sampler.
        cost: The work of one of its frames.
        imagined: What all imagined, by name.
        scenes: The rollouts.
        success: What was found in closed loop.
    """
    found, baseline = imagined[variant.name], imagined[BASELINE]
    recorded_psnr = recorded_change = None
    if scenes.recorded is not None:
        recorded_psnr, recorded_change = compare_with_recording(
            found.frames, baseline.frames, scenes.recorded
        )
    together = found.process == baseline.process
    return Measured(
        name=variant.name,
        sampler=asdict(variant.model.cfg.sampler),
        model=variant.model.fingerprint,
        cost=cost,
        milliseconds=1000 * found.seconds,
        relative_time=found.seconds / baseline.seconds if together else None,
        distance=None if found is baseline else measure_distance(found, baseline),
        recorded_psnr=recorded_psnr,
        recorded_change=recorded_change,
        success=success,
    )


def _load(cfg: FidelityConfig, choice: str | Mapping[str, Any]) -> Vid2World:
    """Load the model with the baseline's sampler, changed by settings, or that of a preset."""
    if isinstance(choice, str):
        preset, sampler = (None if choice == CARD else choice), {}
    else:
        preset, sampler = cfg.preset, {**cfg.sampler, **choice}
    model = load_with(replace(cfg, preset=preset, sampler=sampler))
    assert isinstance(model, Vid2World)
    return model


def _compare(
    cfg: FidelityConfig,
    variants: Sequence[Variant],
    scenes: Scenes,
    policies: Sequence[RobotPolicy],
    identity: Mapping[str, Any],
) -> tuple[dict[str, tuple[SuccessChange, ...]], dict[str, Imagined]]:
    """Imagine and act with every sampler; what cannot be is found before anything is written."""
    acting = [variant for variant in variants if policies and variant.name != FLOOR]
    judge = partial(load_judge, cfg.judge, variants[0].model.robot)  # only where one is needed
    runs = [(_closed_loop(cfg, variant, scenes.task), variant.model) for variant in acting]
    for run, model in runs:
        check_rollouts(run, model, policies, judge())
    RunFolder(Path(cfg.output), identity).begin()
    for run, model in runs:  # other policies or starts than before are refused
        RunFolder(Path(run.output), run_identity(run, model, policies, judge())).begin()
    imagined = {variant.name: _imagined(cfg, variant, scenes) for variant in variants}
    rows = [run_rollouts(run, model, policies, judge()) for run, model in runs]
    success = {
        variant.name: compare_success(of_variant, rows[0])
        for variant, of_variant in zip(acting, rows, strict=True)
    }
    return success, imagined


def _imagined(cfg: FidelityConfig, variant: Variant, scenes: Scenes) -> Imagined:
    """Return what a variant imagines, from its folder if that has it."""
    identity = {"model": variant.model.fingerprint, "seed": variant.seed}
    path = RunFolder(_folder_of(cfg, variant), identity).begin() / "replay.npz"
    if not path.exists():
        save_imagined(path, imagine(variant, scenes, cfg.batch_size))
    return load_imagined(path)


def _closed_loop(cfg: FidelityConfig, variant: Variant, task: str) -> RankConfig:
    output = str(_folder_of(cfg, variant) / "closed_loop")
    return RankConfig(output=output, tasks=[task], starts=cfg.starts, batch_size=cfg.batch_size)


def _folder_of(cfg: FidelityConfig, variant: Variant) -> Path:
    return Path(cfg.output) / "variants" / variant.name.replace(" ", "_")


def _fitting_horizons(cfg: FidelityConfig, steps: int) -> tuple[int, ...]:
    fitting = tuple(horizon for horizon in cfg.horizons if 1 <= horizon <= steps)
    if not fitting:
        raise ValueError(f"expected at least one horizon from 1 to {steps}, found {cfg.horizons}")
    return fitting
