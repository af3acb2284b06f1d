"""LeRobot evaluates a policy in our environments: its order of calls, and its own loop."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.vector_env import Vid2WorldVectorEnv
from v2w_gym.world_models.copy_last import CopyLast


class ThirdStep:
    """Calls a drawer closed after three steps, and never open."""

    def success(self, frames, task):
        return np.array([frames.shape[1] >= 3 and task == "close_drawer"] * len(frames))


def successes_of(info, count, *, reads_is_success):
    """Read success as LeRobot does: 0.4 reads `final_info` only, 0.6 falls back to `is_success`."""
    if "final_info" in info:
        return info["final_info"]["is_success"].tolist()
    return info["is_success"].tolist() if reads_is_success else [False] * count


@pytest.mark.parametrize("reads_is_success", [False, True])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_its_order_of_calls(mode, reads_is_success):
    envs = Vid2WorldVectorEnv(
        2,
        6,
        CopyLast(STANDIN_SAWYER),
        judge=ThirdStep(),
        obs_type="pixels",
        autoreset_mode=mode,
    )
    envs.set_attr("task", ["close_drawer", "open_drawer"])
    observation, _ = envs.reset(seed=[4, 5], options={"lerobot_new_rollout": True})
    assert observation in envs.observation_space
    assert envs.call("_max_episode_steps")[0] == 6
    assert hasattr(envs.envs[0], "task_description") and hasattr(envs.envs[0], "task")
    done, won, steps = np.zeros(2, bool), np.zeros(2, bool), 0
    while not done.all():
        assert (
            observation["pixels"].shape == (2, 64, 64, 3)
            and observation["pixels"].dtype == np.uint8
        )
        assert list(envs.call("task_description")) == ["close the drawer", "open the drawer"]
        observation, _, terminated, truncated, info = envs.step(np.zeros((2, 13), np.float32))
        np.testing.assert_array_equal(np.stack(envs.call("render")), observation["pixels"])
        success = np.array(successes_of(info, 2, reads_is_success=reads_is_success))
        won |= success & ~done
        done |= terminated | truncated
        steps += 1
    assert won.tolist() == [True, False] and steps == 6


LEROBOTS = ["V2W_LEROBOT_PYTHON", "V2W_LEROBOT04_PYTHON"]


@pytest.mark.slow
@pytest.mark.parametrize("variable", LEROBOTS)
@pytest.mark.parametrize("mode", [mode.value for mode in AutoresetMode])
def test_its_own_loop_on_the_vector_environment(results_of, variable, mode):
    result = results_of("lerobot_program.py", variable)[f"native, {mode}"]
    assert result["successes"] == [True, False] * 3 and result["percent"] == 50
    assert result["rewards"] == [1, 0] * 3
    assert result["instructions"] == ["close the drawer", "open the drawer"]
    assert result["videos"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("variable", LEROBOTS)
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_its_own_loop_on_scalar_environments(results_of, variable, mode):
    result = results_of("lerobot_program.py", variable)[f"scalar, {mode}"]
    assert result["successes"] == [True, False] * 3 and result["percent"] == 50
