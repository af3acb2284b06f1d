"""Every bundled kind of policy passes the conformance tests."""

from pathlib import Path

import pytest

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.policies.base import Policy
from v2w_gym.policies.conformance import PolicyConformance
from v2w_gym.policies.rt1.policy import RT1Policy
from v2w_gym.policies.scripted import random_policy, replay_policy, zero_policy


class TestZero(PolicyConformance):
    @pytest.fixture
    def policy(self) -> Policy:
        return zero_policy(STANDIN_SAWYER)


class TestRandom(PolicyConformance):
    @pytest.fixture
    def policy(self) -> Policy:
        return random_policy(STANDIN_SAWYER)


class TestReplay(PolicyConformance):
    @pytest.fixture
    def policy(self, episodes: Path) -> Policy:
        return replay_policy(episodes / "episode_0.npz", STANDIN_SAWYER)


class TestRT1(PolicyConformance):
    @pytest.fixture
    def policy(self, network, table) -> Policy:
        return RT1Policy(network, STANDIN_SAWYER, table, "tiny")
