"""The closed loop of rollouts and trials: a policy acts until every attempt has ended.

A trial is one attempt of a policy at a task on the robot. A rollout is one attempt in the world
model.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from v2w_gym.configs.names import check_name
from v2w_gym.evaluation.records.rows import video_name
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.starts import bundled_starts

SOLVED = "solved before the first action"
"""Event of an attempt that cannot count as a success of its policy."""


@dataclass(frozen=True)
class Finished:
    """An attempt that has ended.

    Attributes:
        slot: Its slot in the vector environment.
        frames: (T, H, W, 3) uint8, the start frame first.
        success: Whether the environment counted it as a success.
        solved_at_start: Whether the task was solved before the first action.
        events: Problems while the policy acted, with their counts.
    """

    slot: int
    frames: NDArray[np.uint8]
    success: bool
    solved_at_start: bool = False
    events: Mapping[str, int] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Number of actions taken."""
        return len(self.frames) - 1


def run_attempts(
    envs: VectorEnv[Any, Any, Any],
    policy: RobotPolicy,
    *,
    env_seeds: Sequence[int],
    policy_seeds: Sequence[int],
    options: Mapping[str, Any],
) -> Iterator[Finished]:
    """Run one attempt in every slot, and yield each as soon as it ends.

    Args:
        envs: Environments without autoreset whose `info` has `instruction` and `success`, and may
            have `solved_at_start`. With several slots, `step` must accept slots that have ended.
        policy: The policy that acts in all slots.
        env_seeds: One per slot, for `envs.reset`.
        policy_seeds: One per slot, for `policy.reset`.
        options: Options for `envs.reset`.

    Raises:
        ValueError: The environments have no judge or no instructions.
    """
    seeds: Any = list(env_seeds)  # Gymnasium takes a list; its annotation knows only one number
    newest, infos = envs.reset(seed=seeds, options=dict(options))
    for name in ("instruction", "success"):
        if name not in infos:
            raise ValueError(
                f"expected {name!r} in the info of the environments, found {sorted(infos)}; make "
                "them with a judge (judge=...)"
            )
    policy.reset(list(infos["instruction"]), seeds=policy_seeds)
    frames = [[frame.copy()] for frame in newest]
    active = np.ones(envs.num_envs, np.bool_)
    while active.any():
        newest, _, terminated, truncated, infos = envs.step(policy.act(newest, active))
        for slot in np.flatnonzero(active).tolist():
            frames[slot].append(newest[slot].copy())
        solved_at_start = infos.get("solved_at_start", np.zeros(envs.num_envs, np.bool_))
        over = active & (terminated | truncated)
        active = active & ~over
        for slot in np.flatnonzero(over).tolist():
            success, solved = bool(infos["success"][slot]), bool(solved_at_start[slot])
            events = {**policy.events[slot], **({SOLVED: 1} if solved else {})}
            yield Finished(slot, np.stack(frames[slot]), success, solved, events)


def policy_seed(start_seed: int, seed: int) -> int:
    """Return the seed of a policy's random choices; different pairs give independent seeds."""
    return int(np.random.SeedSequence([start_seed, seed]).generate_state(1)[0])


def start_seeds(task: str, count: int) -> list[int]:
    """Return the seeds of the first `count` bundled starts of a task.

    Raises:
        ValueError: Unknown task, or fewer than `count` bundled starts.
    """
    seeds = [start.seed for start in bundled_starts(task) if start.seed is not None]
    if not 1 <= count <= len(seeds):
        raise ValueError(f"expected starts from 1 to {len(seeds)} for {task}, found {count}")
    return seeds[:count]


def check_distinct(policies: Sequence[RobotPolicy]) -> None:
    """Check that there are policies and that their names differ, also as folder names.

    Raises:
        ValueError: No policy, two names that differ at most in case, or a name that a table cannot
            show. (Some file systems ignore case.)
    """
    names = [policy.meta.name for policy in policies]
    for name in names:
        try:
            check_name(name)
        except ValueError as error:
            raise ValueError(f"{error}; give the policy a `name:` in a policy file") from error
    folders = {video_name(name, "", 0, 0).lower() for name in names}
    if not names or len(folders) < len(names):
        raise ValueError(
            f"expected policies with different names, also when case is ignored, found "
            f"{names}; rename a file, or give one a `name:` in a policy file"
        )
