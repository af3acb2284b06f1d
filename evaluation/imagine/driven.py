"""Let a policy act in one imagined rollout, closed loop; an interruption loses nothing."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.evaluate import RolloutConfig
from v2w_gym.evaluation.closed_loop import policy_seed
from v2w_gym.evaluation.imagine.scenes import Script, choose_task
from v2w_gym.evaluation.imagine.stepwise import imagine_stepwise
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.progress import RolloutKey
from v2w_gym.starts import Context
from v2w_gym.world_models.base import WorldModel


class Driven:
    """One future in which a policy acts until it ends the episode: a `stepwise.Course`.

    It is shown all frames again when a run goes on, so that it remembers what it had seen.
    """

    futures = 1

    def __init__(self, driver: RobotPolicy, told: str, steps: int) -> None:
        """Take a driver that has just been reset."""
        self.steps = steps
        self.over = False
        self.actions: list[NDArray[np.float32]] = []
        self.driver, self.told = driver, told

    def choose(self, step: int, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Course.choose`."""
        actions = self.driver.act(frames, np.ones(1, np.bool_))
        self.over = bool(self.driver.robot.terminates(actions)[0])
        self.actions.append(actions[0])
        return actions


def begin(cfg: RolloutConfig, driver: RobotPolicy) -> Driven:
    """Tell a policy what to do; nothing is written yet.

    Raises:
        ValueError: An instruction or a number of steps that cannot be.
    """
    task = choose_task(cfg, driver.robot)
    told = cfg.instruction or task.instruction
    steps = task.horizon if cfg.steps is None else cfg.steps
    if cfg.mode != "autoregressive":
        raise ValueError(f"expected mode=autoregressive where a policy acts, found mode={cfg.mode}")
    driver.reset([told], seeds=[policy_seed(cfg.seed, cfg.episode)])
    return Driven(driver, told, steps)


def drive(
    cfg: RolloutConfig, model: WorldModel, course: Driven, folder: Path, context: Context
) -> tuple[Script, float, Mapping[str, int]]:
    """Let a policy act from a start, and keep each frame in `folder`.

    Returns:
        What it did, seconds per frame, and how often what went wrong and was coped with.
    """
    key = RolloutKey(cfg.seed, cfg.episode)
    seconds = imagine_stepwise(folder, model, context, course, key)
    title = f'{course.driver.meta.name}, told "{course.told}"'
    title += ", until it ended the episode" * course.over
    script = Script(title, np.stack(course.actions), ("",) * len(course.actions))
    return script, seconds, dict(course.driver.events[0])
