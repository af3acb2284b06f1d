"""Let a policy act in one imagined rollout, closed loop; an interruption loses nothing."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.imagine import RolloutConfig
from evaluation.closed_loop import policy_seed
from evaluation.scenes import Script, choose_task
from evaluation.stepwise import imagine_stepwise
from policies.driver import Driver
from v2w_gym.attempts import RolloutKey
from v2w_gym.starts import Context
from world_models.base import WorldModel


class Driven:
    """One future in which a policy acts until it ends the episode: an `evaluation.stepwise.Course`.

    It is shown all frames again when a run goes on, so that it remembers what it had seen.
    """

    futures = 1

    def __init__(self, driver: Driver, steps: int) -> None:
        """Take a driver that has just been reset."""
        self.steps = steps
        self.over = False
        self.actions: list[NDArray[np.float32]] = []
        self._driver = driver

    def choose(self, step: int, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Course.choose`."""
        actions = self._driver.act(frames, np.ones(1, np.bool_))
        self.over = bool(self._driver.robot.terminates(actions)[0])
        self.actions.append(actions[0])
        return actions


def drive(
    cfg: RolloutConfig, model: WorldModel, driver: Driver, folder: Path, context: Context
) -> tuple[Script, float, Mapping[str, int]]:
    """Let a policy act from a start, and keep each frame in `folder`.

    Returns:
        What it did, seconds per frame, and how often what went wrong and was coped with.

    Raises:
        ValueError: An instruction or a number of steps that cannot be.
    """
    task, key = choose_task(cfg, model.robot), RolloutKey(cfg.seed, cfg.episode)
    told, steps = cfg.instruction or task.instruction, cfg.steps or task.horizon
    if cfg.mode != "autoregressive" or steps < 1:
        raise ValueError(
            "expected mode=autoregressive and steps >= 1 where a policy acts, found "
            f"mode={cfg.mode} and steps={cfg.steps}"
        )
    driver.reset([told], seeds=[policy_seed(key.seed, key.episode)])
    course = Driven(driver, steps)
    seconds = imagine_stepwise(folder, model, context, course, key)
    title = f'{driver.meta.name}, told "{told}"{", until it ended the episode" * course.over}'
    script = Script(title, np.stack(course.actions), ("",) * len(course.actions))
    return script, seconds, dict(driver.events[0])
