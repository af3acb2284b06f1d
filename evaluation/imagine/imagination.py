"""Imagine one rollout from a start, or every move of the robot, and draw the results."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from v2w_gym.configs.evaluate import ActionControlConfig, ImagineConfig, RolloutConfig
from v2w_gym.configs.names import lookup
from v2w_gym.evaluation.closed_loop import policy_seed
from v2w_gym.evaluation.imagine.scenes import Script, choose_task, load_context, write_script
from v2w_gym.evaluation.imagine.stepwise import (
    Acting,
    Planned,
    imagine_at_once,
    imagine_stepwise,
    load_frames,
)
from v2w_gym.evaluation.records.strips import choose_columns, draw_grid, draw_pairs
from v2w_gym.evaluation.records.video import write_video
from v2w_gym.interface import RolloutKey
from v2w_gym.policies.loading import make_policies
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.starts import Context
from v2w_gym.world_models.base import ClipModel, WorldModel, check_identified
from v2w_gym.world_models.data.recorded_actions import warn_of
from v2w_gym.world_models.data.sources.opening import read_one
from v2w_gym.world_models.data.starts.held_out import warn_of_training
from v2w_gym.world_models.files import write_text
from v2w_gym.world_models.loading import load_with
from v2w_gym.world_models.run_folder import RunFolder, hold_folder

MODES = {"autoregressive": False, "clip": True}
"""Name of a mode -> whether all frames are imagined at once."""
MAY_DIFFER = ("checkpoint", "start", "actions", "policy", "device")
"""Settings that may change when a run is resumed. Inputs are compared by content, not by path."""


def run_rollout(cfg: RolloutConfig, model: WorldModel | None = None) -> Mapping[str, Any]:
    """Imagine one rollout and write `rollout.mp4`, `strip.png`, `actions.npy` and `rollout.json`.

    The exact frames are in `frames`, the newest known one first.

    Args:
        cfg: What to imagine, and where the results go.
        model: A world model to use instead of `cfg.checkpoint`.

    Returns:
        What `rollout.json` holds.

    Raises:
        BlockingIOError: Another process works in the folder.
        FileNotFoundError: A checkpoint, start or file of actions that does not exist.
        OSError: The folder cannot be written.
        ValueError: A setting that is unknown or out of range, the folder of another run, or
            mode=clip for a world model that cannot imagine whole clips.
    """
    at_once, key = lookup(MODES, cfg.mode, "mode"), _key(cfg)
    with hold_folder(Path(cfg.output)):
        return _run_rollout(cfg, _choose(cfg, model), key, at_once)


def _run_rollout(
    cfg: RolloutConfig, model: WorldModel, key: RolloutKey, at_once: bool
) -> Mapping[str, Any]:
    clips = _as_clip_model(model) if at_once else None
    context = load_context(cfg, model.robot, 1 if clips else model.context_frames)
    warn_of_training([context.episode], model.card)
    events: Mapping[str, int] = {}
    if cfg.policy is None:
        folder, script, seconds = _imagine_planned(cfg, model, clips, context, key)
    else:
        with make_policies([cfg.policy], model.robot) as (policy,):
            folder, script, seconds = _imagine_acting(cfg, model, policy, context, key)
            events = dict(policy.events[0])
    np.save(folder / "actions.npy", script.actions)
    frames = load_frames(folder, 1, len(script.actions))[0]
    write_video(folder / "rollout.mp4", frames, model.robot.control_hz)
    title = f"{_title(cfg, model)}: {script.title}{', the whole clip at once' if at_once else ''}"
    strip = draw_rollout(frames, script, model.robot.control_hz, title)
    Image.fromarray(strip).save(folder / "strip.png")
    found = {
        "moves": list(script.moves),
        "instruction": script.instruction,
        "steps": len(script.actions),
        "seconds_per_frame": seconds,
        "events": events,
        "recorded_actions": vars(script.misfits),
    }
    return _save_found(folder / "rollout.json", found, cfg, model)


def _imagine_planned(
    cfg: RolloutConfig,
    model: WorldModel,
    clips: ClipModel | None,
    context: Context,
    key: RolloutKey,
) -> tuple[Path, Script, float]:
    """Take planned actions; return folder, script and seconds per frame."""
    longest = model.window - 1 if clips else math.inf
    script = write_script(cfg, model.robot, len(context.frames), longest)
    warn_of(script.misfits, cfg.start if cfg.actions == "recorded" else cfg.actions)
    folder = _open(cfg, model, context, script.actions.tobytes())
    plan = Planned(script.actions[None])
    if clips:
        return folder, script, imagine_at_once(folder, clips, context, plan, key)
    return folder, script, imagine_stepwise(folder, model, context, plan, key)


def _imagine_acting(
    cfg: RolloutConfig, model: WorldModel, policy: RobotPolicy, context: Context, key: RolloutKey
) -> tuple[Path, Script, float]:
    """Let a policy act closed loop; return folder, script and seconds per frame."""
    task = choose_task(cfg, model.robot)
    if cfg.mode != "autoregressive":
        raise ValueError(f"expected mode=autoregressive where a policy acts, found mode={cfg.mode}")
    recorded = context.instruction if cfg.task is None else None
    instruction = cfg.instruction or recorded or task.instruction
    policy.reset([instruction], seeds=[policy_seed(cfg.seed, cfg.episode)])
    folder = _open(cfg, model, context, (json.dumps(policy.identity) + (recorded or "")).encode())
    course = Acting(policy, task.horizon if cfg.steps is None else cfg.steps)
    seconds = imagine_stepwise(folder, model, context, course, key)
    ending = ", until it ended the episode" if course.over else ""
    title = f'{policy.meta.name} with the instruction "{instruction}"{ending}'
    unnamed = ("",) * len(course.actions)
    script = Script(title, np.stack(course.actions), unnamed, instruction=instruction)
    return folder, script, seconds


def run_action_control(
    cfg: ActionControlConfig, model: WorldModel | None = None
) -> Mapping[str, Any]:
    """Hold each move of the robot from one start with the same noise; measure the differences.

    Writes `action_control.png` and `.mp4`, a labelled row and a labelled video for each move, and
    `action_control.json`.

    Args:
        cfg: What to imagine, and where the results go.
        model: A world model to use instead of `cfg.checkpoint`.

    Returns:
        What `action_control.json` holds; for `difference` see `pixel_differences`.

    Raises:
        BlockingIOError: Another process works in the folder.
        FileNotFoundError: A checkpoint or start that does not exist.
        OSError: The folder cannot be written.
        ValueError: A setting that is unknown or out of range, or the folder of another run.
    """
    key = _key(cfg)
    with hold_folder(Path(cfg.output)):
        return _run_action_control(cfg, _choose(cfg, model), key)


def _run_action_control(
    cfg: ActionControlConfig, model: WorldModel, key: RolloutKey
) -> Mapping[str, Any]:
    context = load_context(cfg, model.robot, model.context_frames)
    warn_of_training([context.episode], model.card)
    labels, rate = list(model.robot.moves), model.robot.control_hz
    actions = np.repeat(np.stack(list(model.robot.moves.values()))[:, None], cfg.steps, axis=1)
    folder = _open(cfg, model, context, actions.tobytes())
    seconds = imagine_stepwise(folder, model, context, Planned(actions), key)
    videos = load_frames(folder, len(labels), cfg.steps)
    write_video(folder / "action_control.mp4", draw_pairs(videos, labels), rate)
    difference = pixel_differences(videos, labels)
    columns = choose_columns(cfg.steps + 1)
    captions = [_clock(column, rate) for column in columns]
    title = f"{_title(cfg, model)}: in each row one move is held, all with the same noise"
    rows = list(videos[:, columns])
    picture = draw_grid(rows, labels, captions, f"{title}\n{headline(difference)}")
    Image.fromarray(picture).save(folder / "action_control.png")
    found = {"difference": difference, "seconds_per_frame": seconds}
    return _save_found(folder / "action_control.json", found, cfg, model)


def pixel_differences(
    videos: NDArray[np.uint8], labels: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return how far B videos (B, T, H, W, 3) of one start differ, every two of them.

    Returns:
        By two labels, the mean absolute difference of pixels in grey levels (0 to 255). The first
        frame, which all share, does not count.
    """
    imagined = dict(zip(labels, videos[:, 1:].astype(np.int16), strict=True))
    return {
        a: {b: round(float(np.abs(imagined[a] - imagined[b]).mean()), 3) for b in labels}
        for a in labels
    }


def headline(difference: Mapping[str, Mapping[str, float]]) -> str:
    """Return a sentence on how much the moves differ, as measured by `pixel_differences`."""
    apart = {f"{a} and {b}": difference[a][b] for a, b in combinations(difference, 2)}
    nearest = min(apart, key=apart.__getitem__)
    return (
        f"Moves differ by {sum(apart.values()) / len(apart):.1f} of 255 grey levels on average, "
        f"{nearest} by only {apart[nearest]:.1f}; 0.0 would mean that actions are ignored."
    )


def draw_rollout(
    frames: NDArray[np.uint8], script: Script, rate: float, title: str
) -> NDArray[np.uint8]:
    """Draw the frames (N + 1, H, W, 3) of a rollout, below recorded frames if there are any."""
    columns = choose_columns(len(frames))
    led_by = ("start", *script.moves)  # what led to each frame
    captions = [f"{_clock(column, rate)}\n{led_by[column]}" for column in columns]
    rows = {"imagined": frames[columns]}
    if script.recorded is not None:
        rows = {"recorded": script.recorded[columns], **rows}
    return draw_grid(list(rows.values()), list(rows), captions, title)


def _choose(cfg: ImagineConfig, model: WorldModel | None) -> WorldModel:
    """Return the given world model, or load the one in the settings."""
    if model is None and isinstance(cfg.start, str):
        read_one(cfg.start).frames[:1]  # a wrong path is noticed before gigabytes are loaded
    model = model or load_with(cfg)
    check_identified(model)
    return model


def _as_clip_model(model: WorldModel) -> ClipModel:
    if not isinstance(model, ClipModel):
        raise ValueError(
            f"expected a world model that imagines whole clips for mode=clip, found "
            f"{type(model).__name__}, which goes frame by frame; leave mode=clip out"
        )
    return model


def _key(cfg: ImagineConfig) -> RolloutKey:
    return RolloutKey(cfg.seed, cfg.episode)


def _open(cfg: ImagineConfig, model: WorldModel, context: Context, acts: bytes) -> Path:
    """Open the run folder of these settings, this model and the content of the input files.

    The input files may move before the run is resumed.
    """
    inputs = hashlib.sha256()
    for part in (context.frames.tobytes(), context.actions.tobytes(), acts):
        inputs.update(part)
    settings = asdict(cfg)
    del settings["output"], settings["dtype"]  # the model's fingerprint covers dtype
    identity = {**settings, "model": model.fingerprint, "inputs": inputs.hexdigest()}
    return RunFolder(Path(cfg.output), identity, MAY_DIFFER).begin()


def _clock(step: int, rate: float) -> str:
    return f"{step / rate:.1f} s"


def _title(cfg: ImagineConfig, model: WorldModel) -> str:
    imagined_by = Path(cfg.checkpoint).name if cfg.checkpoint else "the bundled world model"
    if isinstance(cfg.start, str):
        return f"Imagined by {imagined_by} from {Path(cfg.start).name}"
    task = choose_task(cfg, model.robot).name
    return f"Imagined by {imagined_by} from start {cfg.start} of {task}"


def _save_found(
    path: Path, found: Mapping[str, Any], cfg: ImagineConfig, model: WorldModel
) -> dict[str, Any]:
    """Write the results and their provenance; the file appears whole or not at all."""
    results = {
        **found,
        "settings": asdict(cfg),
        "model_fingerprint": model.fingerprint,
        "model_card": dict(model.card),
    }
    write_text(path, json.dumps(results, indent=2) + "\n")
    return results
