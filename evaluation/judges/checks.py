"""Check before the first rollout that a judge fits a world model, tasks and recordings."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.configs.tasks import tasks_of
from v2w_gym.interface import checked_success
from v2w_gym.judges.base import SOLVED_FRAMES, Judge, Quantity, checked_verdicts
from v2w_gym.starts import load_start
from v2w_gym.world_models.base import WorldModel
from v2w_gym.world_models.data.labelled import LabelledEpisode, load_robot_labelled

NEEDED = ("name", "card", "success", "verdicts")


def check_rollout_judge(judge: Judge, model: WorldModel, tasks: Sequence[str]) -> None:
    """Call a judge on the first start of every task, so that errors come before the rollouts.

    Raises:
        ValueError: An object that is no judge of rollouts, a judge that does not know the frames or
            a task, or a task without bundled starts for the model's robot.
    """
    missing = [name for name in NEEDED if not hasattr(judge, name)]
    if missing:
        raise ValueError(
            f"expected a judge with {', '.join(NEEDED)} (v2w_gym.judges.base.Judge), found "
            f"{type(judge).__name__} without {', '.join(missing)}"
        )
    for task in tasks:
        frame = load_start(0, task, model.robot, model.context_frames).frames[-1]
        still = np.stack([frame] * SOLVED_FRAMES)[None]
        checked_success(judge, still, task)
        checked_verdicts(judge, still, task)


def load_judged_episode(path: Path, robot: RobotSpec, quantity: Quantity | None) -> LabelledEpisode:
    """Read an episode of one of the robot's tasks, and check that it has a judge's quantity.

    Raises:
        ValueError: A damaged episode, one of another robot or task, or without that quantity.
    """
    episode = load_robot_labelled(path, robot)
    lookup(tasks_of(robot.name), episode.task, f"the task of {path}")
    shapes = {name: value.shape for name, value in episode.state.items()}
    if quantity and shapes.get(quantity.name) != episode.success.shape:
        raise ValueError(
            f"expected {quantity.name} {episode.success.shape} in the state of {path}, found "
            f"{shapes}; record the episodes again with `v2w collect`"
        )
    return episode
