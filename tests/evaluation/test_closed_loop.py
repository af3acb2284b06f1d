"""The closed loop, and its requirements on environments."""

import pytest
from gymnasium.vector import AutoresetMode

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.evaluation.closed_loop import run_attempts
from v2w_gym.policies.robot_policy import RobotPolicy
from v2w_gym.policies.scripted import zero_policy
from v2w_gym.vector_env import Vid2WorldVectorEnv
from v2w_gym.world_models.copy_last import CopyLast


def test_environments_that_nobody_judges_are_refused_before_a_step():
    envs = Vid2WorldVectorEnv(
        1, 3, CopyLast(STANDIN_SAWYER), judge=None, autoreset_mode=AutoresetMode.DISABLED
    )
    policy = RobotPolicy(zero_policy(STANDIN_SAWYER), STANDIN_SAWYER)
    with pytest.raises(ValueError, match=r"expected 'success' in the info.*judge=\.\.\."):
        list(run_attempts(envs, policy, env_seeds=[0], policy_seeds=[0], options={}))
