import numpy as np
import pytest
import torch

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.judges.drawer import READABLE_SIGMA, judge_openings
from v2w_gym.judges.loading import BUNDLED_JUDGES, load_judge
from v2w_gym.starts import bundled_starts
from v2w_gym.world_models.checkpoint import load_checkpoint, save_checkpoint

SURE, UNREADABLE = 0.001, 2 * READABLE_SIGMA
BUNDLED = BUNDLED_JUDGES[STANDIN_SAWYER.name]


@pytest.fixture(scope="module")
def judge():
    return load_judge(None, STANDIN_SAWYER)


def judged(openings, task, unreadable=()):
    sigma = np.full(len(openings), SURE)
    sigma[list(unreadable)] = UNREADABLE
    verdicts = judge_openings(np.array([openings]), sigma[None], task)
    return bool(verdicts.success[0]), bool(verdicts.abstained[0])


@pytest.mark.parametrize(
    ("openings", "task", "success"),
    [
        ([0.15, 0.08, 0.03, 0.03], "close_drawer", True),  # the threshold counts as closed
        ([0.15, 0.08, 0.031, 0.03], "close_drawer", False),  # only one frame
        ([0.15, 0.02, 0.05, 0.02], "close_drawer", False),  # two, but not in a row
        ([0.15, 0.02, 0.02, 0.15], "close_drawer", True),  # undone later
        ([0.0, 0.05, 0.12, 0.13], "open_drawer", True),
        ([0.0, 0.05, 0.119, 0.13], "open_drawer", False),
        ([0.0], "close_drawer", False),  # a single frame proves nothing
    ],
)
def test_two_solved_frames_in_a_row_are_a_success(openings, task, success):
    assert judged(openings, task) == (success, False)


@pytest.mark.parametrize(
    ("unreadable", "verdict"),
    [
        ((), (False, False)),
        ((0,), (False, False)),  # frame 0 next to an open drawer cannot change the verdict
        ((3,), (False, True)),  # frame 2 is solved, so frame 3 would decide
        ((2, 3), (False, True)),  # both unreadable: anything may have happened
    ],
)
def test_abstains_only_where_unreadable_frames_could_turn_the_verdict(unreadable, verdict):
    assert judged([0.15, 0.15, 0.02, 0.15], "close_drawer", unreadable) == verdict


def test_a_success_that_was_read_stands_whatever_else_is_unreadable():
    assert judged([0.15, 0.02, 0.02, 0.15], "close_drawer", (0, 3)) == (True, False)


def test_score_is_the_weaker_frame_of_the_best_pair():
    opening = np.array([[0.03, 0.02, 0.15]])
    score = judge_openings(opening, np.full((1, 3), 0.01), "close_drawer").score
    np.testing.assert_allclose(score, [0.5])  # frame 0 lies on the threshold, frame 1 one sigma in


def test_unknown_task_suggests_the_known_one():
    with pytest.raises(ValueError, match="did you mean 'open_drawer'"):
        judge_openings(np.zeros((1, 2)), np.ones((1, 2)), "open_drawr")


def test_frames_of_another_size_are_refused(judge):
    with pytest.raises(ValueError, match=r"expected uint8 frames .* found uint8 \(2, 32, 32, 3\)"):
        judge.opening(np.zeros((2, 32, 32, 3), np.uint8))


def test_a_judge_that_lacks_a_weight_or_is_not_finite_is_refused_in_one_line(tmp_path):
    tensors, card = load_checkpoint(BUNDLED)
    name = next(name for name, value in tensors.items() if value.is_floating_point())
    path = tmp_path / "judge.safetensors"
    save_checkpoint(path, {n: v for n, v in tensors.items() if n != name}, card)
    with pytest.raises(ValueError, match=rf"found 1 missing \['{name}'\]") as raised:
        load_judge(str(path), STANDIN_SAWYER)
    assert "\n" not in str(raised.value)
    path = tmp_path / "diverged.safetensors"
    save_checkpoint(path, {**tensors, name: torch.full_like(tensors[name], torch.inf)}, card)
    with pytest.raises(ValueError, match=f"infinite in '{name}'"):
        load_judge(str(path), STANDIN_SAWYER)


def test_bundled_judge_reads_the_bundled_starts(judge):
    for task, expected in (("close_drawer", 0.16), ("open_drawer", 0.0)):
        opening, sigma = judge.opening(np.stack([start.frame for start in bundled_starts(task)]))
        assert np.abs(opening - expected).mean() < 0.01
        assert (sigma <= READABLE_SIGMA).mean() > 0.95


def test_bundled_judge_is_small_and_tells_its_accuracy(judge):
    assert BUNDLED.stat().st_size < 1_000_000
    for task in ("close_drawer", "open_drawer"):
        found = judge.card["held_out"][task]
        assert found["agreed"] / found["judged"] >= 0.95
        assert found["agreement_95_percent"][0] <= found["agreement"]


def test_bundled_judge_cannot_read_noise(judge):
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    assert (judge.opening(noise)[1] > READABLE_SIGMA).mean() > 0.9


def test_newest_frame_decides_success_in_the_environment(judge):
    closed, opened = (bundled_starts(task)[0].frame for task in ("open_drawer", "close_drawer"))
    videos = np.stack([[closed, opened], [opened, closed]])
    assert judge.success(videos, "close_drawer").tolist() == [False, True]
    assert judge.success(videos, "open_drawer").tolist() == [True, False]
