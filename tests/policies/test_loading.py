from pathlib import Path

import pytest

from configs.robots import STANDIN_SAWYER
from policies.loading import make_policy


@pytest.mark.parametrize("name", ["zero", "random", "rt1-begin", "rt1-15", "rt1-converged"])
def test_bundled_policies_load_under_their_name(name: str):
    policy = make_policy(name, STANDIN_SAWYER)
    assert policy.meta.name == name
    assert bool(policy.meta.fingerprint) == name.startswith("rt1")


def test_bundled_stages_differ():
    stages = ["rt1-begin", "rt1-15", "rt1-converged"]
    prints = {make_policy(stage, STANDIN_SAWYER).meta.fingerprint for stage in stages}
    assert len(prints) == 3


def test_an_episode_is_replayed(episodes: Path):
    policy = make_policy(str(episodes / "episode_0.npz"), STANDIN_SAWYER)
    assert policy.meta.name == "replay"


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'rt1-converged'"):
        make_policy("rt1-convergd", STANDIN_SAWYER)


@pytest.mark.parametrize("name", ["missing.npz", "missing.safetensors"])
def test_missing_file_is_named(name: str):
    with pytest.raises(FileNotFoundError, match=name):
        make_policy(name, STANDIN_SAWYER)
