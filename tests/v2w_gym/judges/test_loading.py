"""A judge is given by a word, a file or an object; errors for another robot or kind."""

import os

import numpy as np
import pytest

from v2w_gym.configs.robots import GOOGLE_ROBOT, STANDIN_SAWYER
from v2w_gym.judges import loading
from v2w_gym.judges.base import Verdicts
from v2w_gym.judges.loading import BUNDLED_JUDGES, JUDGES, find_judge, load_judge
from v2w_gym.world_models.checkpoint import load_checkpoint, save_checkpoint


@pytest.fixture
def save(tmp_path):
    """Save the bundled judge with changes to its card."""
    tensors, card = load_checkpoint(BUNDLED_JUDGES[STANDIN_SAWYER.name])

    def make(**changes):
        save_checkpoint(tmp_path / "judge.safetensors", tensors, {**card, **changes})
        return str(tmp_path / "judge.safetensors")

    return make


def test_every_word_for_the_bundled_judge_means_the_same_one():
    bundled = load_judge(None, STANDIN_SAWYER)
    assert find_judge("default", STANDIN_SAWYER) is bundled is find_judge("bundled", STANDIN_SAWYER)
    assert bundled.name.startswith("drawer_judge-")


def test_an_object_is_the_judge_and_none_is_nobody():
    judge = load_judge(None, STANDIN_SAWYER)
    assert find_judge(judge, GOOGLE_ROBOT) is judge
    assert find_judge(None, GOOGLE_ROBOT) is None


def test_a_robot_without_a_bundled_judge_gives_a_warning():
    with pytest.raises(
        ValueError, match="bundled judge of robot 'google_robot', found bundled judges of"
    ):
        load_judge(None, GOOGLE_ROBOT)


def test_a_judge_of_another_robot_is_refused(save):
    with pytest.raises(ValueError, match="'standin_sawyer', found one of 'google_robot'"):
        load_judge(save(robot="google_robot"), STANDIN_SAWYER)


def test_an_unknown_kind_is_refused_with_those_that_are_known(save):
    with pytest.raises(ValueError, match=r"kind of judge at .* \['drawer_judge'\], found 'vlm'"):
        load_judge(save(kind="vlm"), STANDIN_SAWYER)


def test_a_missing_judge_is_refused(tmp_path):
    for load in (load_judge, find_judge):
        with pytest.raises(FileNotFoundError, match="expected a judge at .*v2w train-judge"):
            load(str(tmp_path / "judge.safetensors"), STANDIN_SAWYER)


def test_a_file_that_is_written_again_is_read_again(save):
    path = save(seed=1)
    first = load_judge(path, STANDIN_SAWYER)
    assert load_judge(path, STANDIN_SAWYER) is first
    save(seed=2)
    os.utime(path, ns=(1, 1))  # a disk's clock may be coarser than this test is quick
    assert load_judge(path, STANDIN_SAWYER).card["seed"] == 2


def test_a_new_kind_of_judge_is_one_line(save, monkeypatch):
    class Always:
        name = "always"

        def __init__(self, path, tensors, card):
            self.card = card

        def success(self, frames, task):
            return np.ones(len(frames), bool)

        def verdicts(self, frames, task):
            yes = self.success(frames, task)
            return Verdicts(yes, ~yes, yes.astype(float))

    monkeypatch.setattr(loading, "JUDGES", {**JUDGES, "always": Always})
    assert load_judge(save(kind="always"), STANDIN_SAWYER).name == "always"
