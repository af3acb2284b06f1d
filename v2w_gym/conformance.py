"""Conformance tests that every environment passes, simulated or imagined.

class TestMine(EnvironmentConformance):
    @pytest.fixture
    def make(self) -> Callable[..., gym.Env]: ...
"""

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from v2w_gym.configs.robots import TERMINATE, RobotSpec

Env = gym.Env[NDArray[np.uint8], NDArray[np.float32]]
STEPS = 4
ADVICE = (
    ".*maximum and minimum values are equal",
    ".*symmetric and normalized",  # actions have units
    "no rollout counts as a success",
    "using the small bundled world model",
)
"""Warnings about how an environment was made; they are expected."""


class SolvedFrom:
    """A judge that calls an attempt solved once it has `frames` frames, the start included."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def success(self, frames: NDArray[np.uint8], task: str) -> NDArray[np.bool_]:
        return np.full(len(frames), frames.shape[1] >= self.frames)


@pytest.mark.filterwarnings(*(f"ignore:{text}" for text in ADVICE))
class EnvironmentConformance:
    """Tests of an environment; a subclass adds the fixture `make`.

    `make` takes an environment's keyword arguments and returns the environment. Its attempts begin
    with one frame and have a time limit of at least 12 steps.
    """

    @pytest.fixture
    def env(self, make: Callable[..., Env]) -> Env:
        """An environment with default arguments."""
        return make()

    @pytest.fixture
    def robot(self, env: Env) -> RobotSpec:
        """The robot of `env`."""
        return robot_of(env)

    @pytest.fixture(params=["at rest", "moving"])
    def action(self, request: pytest.FixtureRequest, robot: RobotSpec) -> NDArray[np.float32]:
        """An action within the bounds that does not end the attempt."""
        if request.param == "at rest":
            return robot.make_action()
        return next(iter(robot.moves.values()))

    def test_gymnasium_check_env_passes(self, make: Callable[..., Env]) -> None:
        """`check_env` raises no error and gives no warning."""
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for expected in ADVICE:
                warnings.filterwarnings("ignore", expected)
            check_env(make(render_mode="rgb_array").unwrapped)

    def test_reset_and_step_return_the_same_info_keys(
        self, env: Env, action: NDArray[np.float32]
    ) -> None:
        """`info` has the same keys and types after a reset and after a step."""
        _, begun = env.reset(seed=3)
        after = env.step(action)[4]
        assert set(begun) == set(after)
        assert {name: type(value) for name, value in begun.items()} == {
            name: type(value) for name, value in after.items()
        }
        task, instruction = (env.get_wrapper_attr(name) for name in ("task", "task_description"))
        assert (begun["task"], begun["instruction"]) == (task, instruction)
        assert (begun["seed"], begun["episode_index"]) == (3, 0)
        assert (begun["actions_clipped"], begun["actions_not_one_hot"]) == (0, 0)

    def test_zeros_are_neutral(self, make: Callable[..., Env], robot: RobotSpec) -> None:
        """An action of zeros equals the robot's resting action and does not end an attempt."""
        resting, zeros = make(), make()
        for env in (resting, zeros):
            env.reset(seed=0)
        for _ in range(STEPS):
            frame = resting.step(robot.make_action())[0]
            found, _, terminated, _, _ = zeros.step(np.zeros(robot.action_size, np.float32))
            np.testing.assert_array_equal(found, frame)
            assert not terminated

    def test_sampled_actions_do_not_end_an_attempt(self, make: Callable[..., Env]) -> None:
        """Random exploration runs until the time limit."""
        env = make(judge=None)
        env.action_space.seed(0)
        env.reset(seed=0)
        for _ in range(12):
            assert not env.step(env.action_space.sample())[2]

    def test_actions_out_of_bounds_are_clipped_and_counted(
        self, make: Callable[..., Env], robot: RobotSpec
    ) -> None:
        """The first clipped action warns, every one is counted; `strict_actions` raises."""
        value = movable_value(robot)
        beyond, bound = robot.make_action(), robot.make_action()
        beyond[value], bound[value] = robot.high[value] + 1, robot.high[value]
        clipping, exact = make(), make()
        for env in (clipping, exact):
            env.reset(seed=0)
        with pytest.warns(UserWarning, match="outside the bounds"):
            frame, *_, info = clipping.step(beyond)
        np.testing.assert_array_equal(frame, exact.step(bound)[0])
        assert info["actions_clipped"] == 1
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert clipping.step(beyond)[4]["actions_clipped"] == 2
        assert clipping.reset()[1]["actions_clipped"] == 0
        strict = make(strict_actions=True)
        strict.reset(seed=0)
        with pytest.raises(ValueError, match=r"expected .* in \["):
            strict.step(beyond)

    def test_invalid_actions_are_errors(self, env: Env, robot: RobotSpec) -> None:
        """A wrong shape or a value that is no finite number raises and changes nothing."""
        frame, _ = env.reset(seed=0)
        for size in (robot.action_size - 1, robot.action_size + 1):
            with pytest.raises(ValueError, match="expected an action of shape"):
                env.step(np.zeros(size, np.float32))
        no_numbers: tuple[Any, ...] = (None, ["a"] * robot.action_size, {})
        for wrong in no_numbers:
            with pytest.raises(ValueError, match="expected an action of shape"):
                env.unwrapped.step(wrong)
        for value in (np.nan, np.inf, -np.inf):
            action = robot.make_action()
            action[movable_value(robot)] = value
            with pytest.raises(ValueError, match="expected a finite"):
                env.step(action)
        np.testing.assert_array_equal(
            env.step(robot.make_action())[0], restart(env, robot.make_action())
        )
        assert frame.shape == env.observation_space.shape

    def test_a_policy_may_end_the_attempt(self, make: Callable[..., Env], robot: RobotSpec) -> None:
        """An exact one-hot ends the attempt, unless `terminate="ignore"`."""
        if TERMINATE not in robot.slices:
            pytest.skip(f"{robot.name} has no action that ends an attempt")
        end = robot.make_action(**{TERMINATE: (1, 0, 0)})
        soft = robot.make_action(**{TERMINATE: (0.6, 0.3, 0.1)})
        stopping, ignoring = make(), make(terminate="ignore")
        for env in (stopping, ignoring):
            env.reset(seed=0)
        _, _, terminated, _, info = stopping.step(soft)
        assert (terminated, info["actions_not_one_hot"]) == (False, 1)
        assert stopping.step(end)[2]
        assert not ignoring.step(end)[2]

    def test_a_seed_fixes_every_pixel(self, make: Callable[..., Env], robot: RobotSpec) -> None:
        """Frames depend on the seed and the actions, not on earlier attempts."""
        one, two = make(), make()
        two.reset(seed=9)
        for move in robot.moves.values():
            two.step(move)
        np.testing.assert_array_equal(roll(one, robot, seed=4), roll(two, robot, seed=4))

    def test_episodes_follow_one_another_and_can_be_named(
        self, make: Callable[..., Env], robot: RobotSpec
    ) -> None:
        """A reset without a seed begins the next episode; the option `episode` chooses one."""
        env = make()
        third = [roll(env, robot, seed=4), roll(env, robot), roll(env, robot)][2]
        named = roll(make(), robot, seed=4, options={"episode": 2, "not an option": 1})
        np.testing.assert_array_equal(named, third)
        assert env.reset()[1]["episode_index"] == 3

    def test_frames_are_copies(self, make: Callable[..., Env], robot: RobotSpec) -> None:
        """Writing into a returned frame does not change the environment."""
        env = make(render_mode="rgb_array")
        frame, _ = env.reset(seed=0)
        kept = frame.copy()
        frame[:] = 0
        np.testing.assert_array_equal(env.render(), kept)
        env.step(robot.make_action())[0][:] = 0
        assert np.asarray(env.render()).any()

    def test_reset_comes_first(self, make: Callable[..., Env], robot: RobotSpec) -> None:
        """`step` and `render` raise before the first reset."""
        env = make(render_mode="rgb_array").unwrapped
        with pytest.raises(gym.error.ResetNeeded):
            env.step(robot.make_action())
        with pytest.raises(gym.error.ResetNeeded):
            env.render()

    @pytest.mark.parametrize(
        "arguments",
        [
            {"task": "not a task"},
            {"task": ["close_drawer"]},
            {"render_mode": "hologram"},
            {"terminate": "perhaps"},
            {"terminate": ["stop"]},
            {"strict_actions": "no"},
            {"judge": "not a judge"},
            {"judge": np.zeros(2)},
            {"start": -1},
            {"start": True},
        ],
        ids=str,
    )
    def test_wrong_arguments_are_refused(
        self, make: Callable[..., Env], arguments: dict[str, Any]
    ) -> None:
        """At once, and the line says what was expected."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ValueError, match="expected"):
                make(**arguments)

    def test_a_judge_decides(self, make: Callable[..., Env], robot: RobotSpec) -> None:
        """A task solved in two frames is a success: reward 1, and the attempt ends."""
        env = make(judge=SolvedFrom(3))
        _, info = env.reset(seed=0)
        found = [(0.0, False, info["success"], info["is_success"])]
        for _ in range(3):
            _, reward, terminated, _, info = env.step(robot.make_action())
            found.append((float(reward), terminated, info["success"], info["is_success"]))
        assert found == [(0.0, False, False, False)] * 3 + [(1.0, True, True, True)]

    def test_without_a_judge_info_has_no_success(
        self, make: Callable[..., Env], robot: RobotSpec
    ) -> None:
        """`judge=None` removes the success keys from `info`, and the reward stays 0."""
        env = make(judge=None)
        _, begun = env.reset(seed=0)
        _, reward, terminated, _, info = env.step(robot.make_action())
        assert (reward, terminated) == (0.0, False)
        assert not {"success", "is_success", "solved_at_start"} & ({*begun} | {*info})

    def test_a_task_solved_at_the_start_is_no_success(
        self, make: Callable[..., Env], robot: RobotSpec
    ) -> None:
        """The reset warns and sets `solved_at_start`; the attempt cannot succeed."""
        env = make(judge=SolvedFrom(0))
        with pytest.warns(UserWarning, match="solved already at the start"):
            assert env.reset(seed=0)[1]["solved_at_start"]
        for _ in range(3):
            _, reward, terminated, _, info = env.step(robot.make_action())
            assert (reward, terminated, info["success"]) == (0.0, False, False)

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
    def test_a_copy_continues_like_the_original(
        self, env: Env, robot: RobotSpec, copied: Callable[[Env], Env]
    ) -> None:
        """A copy made during an attempt returns the same frames as the original."""
        moves = list(robot.moves.values())
        env.reset(seed=0)
        env.step(moves[0])
        other = copied(env)
        for move in moves[:3]:
            (frame, *ours), (found, *theirs) = env.step(move), other.step(move)
            np.testing.assert_array_equal(found, frame)
            assert ours == theirs
        np.testing.assert_array_equal(env.reset()[0], other.reset()[0])


def robot_of(env: Env) -> RobotSpec:
    """Return the robot of an environment."""
    robot: RobotSpec = env.get_wrapper_attr("robot")
    return robot


def movable_value(robot: RobotSpec) -> int:
    """Return the index of the first continuous action value."""
    for field in robot.fields:
        if field.low < field.high and not field.is_one_hot:
            return robot.slices[field.name].start
    raise ValueError(f"expected a robot that can move, found {robot.name!r}")


def roll(env: Env, robot: RobotSpec, **reset: Any) -> NDArray[np.uint8]:
    """Return the frames of a reset and of `STEPS` moves."""
    frames = [env.reset(**reset)[0]]
    moves = list(robot.moves.values())
    return np.stack([*frames, *(env.step(moves[i % len(moves)])[0] for i in range(STEPS))])


def restart(env: Env, action: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the frame that one action leads to from the start of seed 0."""
    env.reset(seed=0)
    return env.step(action)[0]
