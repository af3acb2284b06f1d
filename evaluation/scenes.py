"""What a rollout begins with, what is done in it, and what was recorded of the same actions."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.imagine import ImagineConfig, RolloutConfig
from configs.lookup import hint, lookup
from configs.robots import RobotSpec
from v2w_gym.recordings import read_recording
from v2w_gym.starts import Context, load_start
from v2w_gym.tasks import Task, find_task, tasks_of
from world_models.frames import fit

WITHOUT_FILE = ["held", "idle", "recorded"]


@dataclass(frozen=True)
class Script:
    """What is done in a rollout of N steps.

    Attributes:
        title: What that is, in a few words.
        actions: (N, A).
        moves: What each action is called; empty for one without a name.
        recorded: (N + 1, H, W, 3) uint8, what the camera saw when these actions were taken, from
            the newest known frame on; None where nobody took them.
    """

    title: str
    actions: NDArray[np.float32]
    moves: tuple[str, ...]
    recorded: NDArray[np.uint8] | None = None


def choose_task(cfg: ImagineConfig, robot: RobotSpec) -> Task:
    """Return the task that is named, or the first one that the robot can attempt.

    Raises:
        ValueError: Unknown task, or a task of other robots.
    """
    return find_task(cfg.task or next(iter(tasks_of(robot.name))), robot.name)


def load_context(cfg: ImagineConfig, robot: RobotSpec, frames: int) -> Context:
    """Return what `cfg.start` shows first: `frames` frames, or as many as a recording has.

    Raises:
        FileNotFoundError: No such file.
        ValueError: No such start, or frames of another size that are not to be fitted.
    """
    task = choose_task(cfg, robot).name
    if not (cfg.fit and isinstance(cfg.start, str)):
        return load_start(cfg.start, task, robot, frames)
    height, width = read_recording(cfg.start).frames.shape[1:3]
    camera = replace(robot, frame_size=(height, width))
    context = load_start(cfg.start, task, camera, frames)
    return Context(fit(context.frames, robot.frame_size), context.actions)


def write_script(cfg: RolloutConfig, robot: RobotSpec, known: int, longest: float) -> Script:
    """Choose the actions of a rollout.

    Args:
        cfg: Settings.
        robot: Whose actions they are.
        known: How many frames of the start are known.
        longest: Most steps there can be, or infinity.

    Raises:
        FileNotFoundError: No such file of actions.
        ValueError: Actions that are unknown, too few, or none that the robot can execute.
    """
    given = _given_actions(cfg, known)
    steps = _count_steps(cfg, choose_task(cfg, robot).horizon, given, longest)
    if cfg.actions == "held":
        moves = draw_moves(cfg, robot, steps)
        actions = np.stack([robot.moves[move] for move in moves])
        return Script(f"random moves, each held for {cfg.hold} frames", actions, moves)
    unnamed = ("",) * steps
    if given is None:
        return Script("doing nothing", np.tile(robot.make_action(), (steps, 1)), unnamed)
    actions = robot.check_actions(given[:steps])
    if cfg.actions == "recorded":
        frames = read_recording(str(cfg.start)).frames[known - 1 : known + steps]
        recorded = fit(frames, robot.frame_size) if cfg.fit else frames
        return Script("the actions that were recorded", actions, unnamed, recorded)
    return Script(f"the actions in {Path(cfg.actions).name}", actions, unnamed)


def draw_moves(cfg: RolloutConfig, robot: RobotSpec, steps: int) -> tuple[str, ...]:
    """Draw one of the robot's moves for every `cfg.hold` steps; a longer rollout begins the same.

    Raises:
        ValueError: Unknown move, none at all, or one that is held for no time.
    """
    names = list(robot.moves) if cfg.moves is None else cfg.moves
    if cfg.hold < 1 or not names:
        raise ValueError(
            f"expected hold >= 1 and at least one move, found hold={cfg.hold} and moves={names}"
        )
    for name in names:
        lookup(robot.moves, name, f"move of robot {robot.name!r}")
    rng = np.random.default_rng([cfg.seed, cfg.episode])
    drawn = rng.integers(len(names), size=-(-steps // cfg.hold))
    return tuple(names[drawn[step // cfg.hold]] for step in range(steps))


def _count_steps(
    cfg: RolloutConfig, horizon: int, given: NDArray[np.float32] | None, longest: float
) -> int:
    available = horizon if given is None else len(given)
    most = longest if given is None else min(longest, available)
    steps = int(min(available, longest)) if cfg.steps is None else cfg.steps
    if not 1 <= steps <= most:
        raise ValueError(
            f"expected steps from 1 to {most} for mode={cfg.mode} and actions={cfg.actions}, "
            f"found {steps}"
        )
    return steps


def _given_actions(cfg: RolloutConfig, known: int) -> NDArray[np.float32] | None:
    """Read the actions (N, A) that are on disk; None where they do not come from there."""
    if cfg.actions in ("held", "idle"):
        return None
    if cfg.actions == "recorded":
        return _recorded_actions(cfg.start)[known - 1 :]
    if not Path(cfg.actions).is_file():
        raise FileNotFoundError(
            f"expected actions to be one of {WITHOUT_FILE} or a file, found {cfg.actions!r}"
            f"{hint(cfg.actions, WITHOUT_FILE)}"
        )
    if Path(cfg.actions).suffix != ".npy":
        return _recorded_actions(cfg.actions)
    return _load_actions(Path(cfg.actions))


def _load_actions(path: Path) -> NDArray[np.float32]:
    try:
        given = np.load(path, allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"expected actions (N, A) in {path}, found {error}") from error
    if not isinstance(given, np.ndarray) or given.ndim != 2 or given.dtype.kind not in "fiu":
        found = f"{given.dtype} {given.shape}" if isinstance(given, np.ndarray) else "no array"
        raise ValueError(f"expected numbers (N, A) in {path}, found {found}")
    return given.astype(np.float32)


def _recorded_actions(source: int | str) -> NDArray[np.float32]:
    actions = read_recording(source).actions if isinstance(source, str) else None
    if actions is None:
        raise ValueError(
            f"expected a recording that holds actions, found {source!r}; choose actions=held, "
            "actions=idle or a file of actions"
        )
    return actions
