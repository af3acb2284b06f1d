"""Measure how much cheaper ways of sampling change what one world model imagines."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from v2w_gym.configs.checks import BASELINE, FLOOR, FidelityConfig
from v2w_gym.configs.evaluate import RankConfig
from v2w_gym.evaluation.checks.bench.costs import step_costs
from v2w_gym.evaluation.checks.fidelity.change import compare_frames, compare_success, psnr_by_frame
from v2w_gym.evaluation.checks.fidelity.imagined import (
    Imagined,
    Variant,
    folder_of,
    imagine_once,
    load_scenes,
)
from v2w_gym.evaluation.checks.fidelity.report import Report, write_report
from v2w_gym.evaluation.imagine.scenes import Scenes
from v2w_gym.evaluation.records.rows import run_identity
from v2w_gym.evaluation.rollout import check_rollouts, run_rollouts
from v2w_gym.judges.base import Judge
from v2w_gym.judges.loading import load_judge
from v2w_gym.policies.loading import make_policies
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.world_models.loading import load_with
from v2w_gym.world_models.run_folder import RunFolder, hold_folder
from v2w_gym.world_models.vid2world.model import Vid2World

CARD = "card"
CANDIDATES = {"draft": "draft", "standard": "standard", CARD: CARD}


def run_fidelity(cfg: FidelityConfig) -> Report:
    """Imagine the missing rollouts, compare them, and write the results; see `write_report`.

    Each sampler's rollouts are kept in `variants`, so a new candidate costs only its own rollouts.

    Raises:
        BlockingIOError: Another process works in the folder.
        FileNotFoundError: A checkpoint, judge or folder of episodes that does not exist.
        OSError: The folder cannot be written, or the disk is full.
        ValueError: A setting unknown or out of range, or the folder of another run.
    """
    torch.set_num_threads(cfg.threads)
    with hold_folder(Path(cfg.output)) as folder:
        variants = _load_variants(cfg)
        model = variants[0].model
        scenes = load_scenes(cfg, model.robot, model.context_frames)
        identity = {"model": model.fingerprint, "seed": cfg.seed, "scenes": scenes.digest}
        with make_policies(cfg.policies, model.robot) as policies:
            acting = [v for v in variants if policies and v.name != FLOOR]
            runs = {v.name: _closed_loop(cfg, v, scenes.task, policies) for v in acting}
            for run in runs.values():
                check_rollouts(*run)
            RunFolder(folder, identity).begin()
            for run in runs.values():  # other policies or starts than before are refused
                RunFolder(Path(run[0].output), run_identity(*run)).begin()
            imagined = {v.name: imagine_once(cfg, v, scenes) for v in variants}
            rows = {name: run_rollouts(*run) for name, run in runs.items()}
        found = _compare(cfg, variants, scenes, imagined, rows)
        videos = {} if scenes.recorded is None else {"recorded": scenes.recorded}
        videos |= {name: each.frames for name, each in imagined.items()}
        write_report(folder, found, videos)
        return found


def _load_variants(cfg: FidelityConfig) -> list[Variant]:
    baseline, candidates = _load(cfg, {}), cfg.candidates or CANDIDATES
    return [
        Variant(BASELINE, baseline, cfg.seed),
        Variant(FLOOR, baseline, cfg.seed + 1),
        *(Variant(name, _load(cfg, choice), cfg.seed) for name, choice in candidates.items()),
    ]


def _load(cfg: FidelityConfig, choice: str | Mapping[str, Any]) -> Vid2World:
    """Load the model with a preset, or with the baseline's sampler and some other settings."""
    if isinstance(choice, str):
        cfg = replace(cfg, preset=None if choice == CARD else choice, sampler={})
    else:
        cfg = replace(cfg, sampler={**cfg.sampler, **choice})
    model = load_with(cfg)
    assert isinstance(model, Vid2World)
    return model


def _closed_loop(
    cfg: FidelityConfig, variant: Variant, task: str, policies: Sequence[RobotPolicy]
) -> tuple[RankConfig, Vid2World, Sequence[RobotPolicy], Judge]:
    """Return the arguments of `run_rollouts`."""
    output = str(folder_of(cfg, variant) / "closed_loop")
    run = RankConfig(output=output, tasks=[task], starts=cfg.starts, batch_size=cfg.batch_size)
    return run, variant.model, policies, load_judge(cfg.judge, variant.model.robot)


def _compare(
    cfg: FidelityConfig,
    variants: list[Variant],
    scenes: Scenes,
    imagined: Mapping[str, Imagined],
    rows: Mapping[str, pd.DataFrame],
) -> Report:
    """Compare every sampler with the baseline; without closed loop, `rows` is empty."""
    frames, model = imagined[BASELINE].frames, variants[0].model
    steps, settings = scenes.actions.shape[1], asdict(model.cfg.sampler)
    costs = {m: step_costs(m, [m.cfg.sampler.steps])[0] for m in {v.model for v in variants}}
    samplers = [
        {
            "sampler": v.name,
            "differs in": {k: s for k, s in vars(v.model.cfg.sampler).items() if s != settings[k]},
            **costs[v.model],
            "ms": 1000 * imagined[v.name].seconds,
            **compare_frames(imagined[v.name].frames, frames, scenes.recorded),
        }
        for v in variants
    ]
    return {
        "checkpoint": Path(cfg.checkpoint).name if cfg.checkpoint else "the bundled world model",
        "model": model.fingerprint,
        "task": scenes.task,
        "rollouts": len(scenes.frames),
        "steps": steps,
        "recorded": scenes.recorded is not None,
        "seed": cfg.seed,
        "horizons": sorted({h for h in cfg.horizons if h < steps} | {steps}),
        "baseline": settings,
        "samplers": samplers,
        "psnr": {v.name: psnr_by_frame(imagined[v.name].frames, frames) for v in variants[1:]},
        "success": [
            {"sampler": name, **row}
            for name, found in rows.items()
            if name != BASELINE
            for row in compare_success(found, rows[BASELINE])
        ],
    }
