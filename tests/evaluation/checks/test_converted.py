"""A converted policy is compared with its original, and the comparison can fail."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.networks import TINY_RT1
from v2w_gym.configs.convert import VerifyPolicyConfig
from v2w_gym.configs.robots import GOOGLE_ROBOT
from v2w_gym.evaluation.checks.converted import compare, to_table, to_tokens, verify_policy
from v2w_gym.evaluation.checks.shown_frames import find_weakness, load_frames
from v2w_gym.policies.base import ActionBatch, Policy, PolicyMeta
from v2w_gym.policies.instructions import InstructionTable, make_table
from v2w_gym.policies.rt1.network import RT1Network
from v2w_gym.policies.rt1.policy import RT1Policy, save_rt1
from v2w_gym.policies.rt1.tokenizer import ActionTokenizer
from v2w_gym.scripts.verify_policy import main

STEPS = 9
TABLE = make_table(["pick coke can", "close drawer"], 512)
TOKENIZER = ActionTokenizer(GOOGLE_ROBOT)


def make_network() -> RT1Network:
    """A small network with large random weights, so that every input matters to its choices."""
    torch.manual_seed(0)
    cfg = replace(TINY_RT1, repeats=(1, 1), kernels=(3, 3), instruction_size=512)
    network = RT1Network(cfg, action_tokens=11)
    for weight in network.parameters():
        weight.data += 0.3 * torch.randn_like(weight)
    return network.eval()


@pytest.fixture(scope="module")
def converted() -> RT1Policy:
    return RT1Policy(make_network(), GOOGLE_ROBOT, TABLE, "converted")


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Coloured gradients that move: (T, 64, 64, 3)."""
    rows, columns = np.mgrid[:64, :64]
    colours = [np.stack([3 * rows, 2 * columns + 8 * t, 9 * t + rows], -1) for t in range(STEPS)]
    return np.stack(colours).astype(np.uint8)


class Recording:
    """Gives the actions (T, A) it was made with."""

    meta = PolicyMeta("recording", "fractal13")

    def __init__(self, actions: np.ndarray) -> None:
        self._actions = actions

    def reset(self, instructions, *, seeds) -> None:
        self._step = -1

    def act(self, frames, active) -> ActionBatch:
        self._step += 1
        return ActionBatch(self._actions[self._step].astype(np.float32)[None, None])

    def close(self) -> None:
        pass


def actions_of(policy: Policy, frames: np.ndarray) -> np.ndarray:
    policy.reset([TABLE.texts[0]], seeds=[0])
    return np.stack([policy.act(now[None], np.ones(1, bool)).actions[0, 0] for now in frames])


def one_token_higher(actions: np.ndarray, step: int, field: str) -> np.ndarray:
    """Move the field's first value by one bin, away from the bound if it is there."""
    place = GOOGLE_ROBOT.slices[field].start
    low, high = GOOGLE_ROBOT.low[place], GOOGLE_ROBOT.high[place]
    changed = actions.copy()
    bin_size = (high - low) / 255
    changed[step, place] += bin_size if changed[step, place] < (low + high) / 2 else -bin_size
    return changed


def test_every_token_is_found_again_from_its_action() -> None:
    tokens = np.repeat(np.arange(256)[:, None], 11, 1)
    tokens[:, 0] %= 3
    actions = TOKENIZER.decode(tokens)
    rounding = np.float32(1e-6) * np.resize([1, -1], actions.shape).astype(np.float32)
    for nearly in (actions, actions + rounding, actions - rounding):
        assert (to_tokens(TOKENIZER, nearly) == tokens).all()


def test_a_policy_agrees_with_itself(converted: RT1Policy, frames: np.ndarray) -> None:
    original = RT1Policy(make_network(), GOOGLE_ROBOT, TABLE, "original")
    result = compare(converted, original, frames, TABLE.texts[0])
    assert result.verdict == "equal" and result.passed
    total = result.total
    assert (result.steps, total.tokens, total.ties, total.different) == (STEPS, 99, 0, 0)
    assert total.worst == 0
    assert result.control > 0 and not result.warnings
    assert [part.tokens for part in result.fields.values()] == [9, 27, 27, 9, 9, 18]


def test_one_token_off_is_a_difference(converted: RT1Policy, frames: np.ndarray) -> None:
    actions = one_token_higher(actions_of(converted, frames), 5, "rotation_delta")
    result = compare(converted, Recording(actions), frames, TABLE.texts[0])
    assert result.verdict == "different: 1 of 99 tokens"
    assert result.fields["rotation_delta"].different == 1
    assert result.fields["rotation_delta"].worst == pytest.approx(np.pi / 255, rel=1e-3)
    assert result.fields["world_vector"].worst == 0
    assert result.total.apart == 0


def test_another_mode_is_a_difference(converted: RT1Policy, frames: np.ndarray) -> None:
    actions = actions_of(converted, frames)
    place = GOOGLE_ROBOT.slices["terminate_episode"]
    actions[3, place] = np.roll(actions[3, place], 1)
    result = compare(converted, Recording(actions), frames, TABLE.texts[0])
    assert result.fields["terminate_episode"].different == 1
    assert not result.passed


@pytest.mark.parametrize(("gap", "ties"), [(0.9e-3, 1), (1.1e-3, 0)])
def test_a_difference_between_logits_as_good_as_equal_is_a_tie(
    frames: np.ndarray, monkeypatch: pytest.MonkeyPatch, gap: float, ties: int
) -> None:
    policy = RT1Policy(make_network(), GOOGLE_ROBOT, TABLE, "converted")
    actions = one_token_higher(actions_of(policy, frames), 5, "world_vector")
    wanted = to_tokens(TOKENIZER, actions)[5, 1]
    step, calls = policy.token_history.step, []

    def nearly_tied(shown, slots):
        logits = step(shown, slots)
        calls.append(len(calls))
        if calls[-1] == 5:
            logits[0, 1, wanted] = logits[0, 1].max() - gap
        return logits

    monkeypatch.setattr(policy.token_history, "step", nearly_tied)
    result = compare(policy, Recording(actions), frames, TABLE.texts[0])
    assert (result.total.ties, result.total.different) == (ties, 1 - ties)
    assert result.passed == bool(ties)


def test_other_bounds_are_a_difference_though_the_tokens_are_the_same(
    converted: RT1Policy, frames: np.ndarray
) -> None:
    actions = actions_of(converted, frames)
    actions[:, GOOGLE_ROBOT.slices["world_vector"]] += 0.002
    result = compare(converted, Recording(actions), frames, TABLE.texts[0])
    assert result.total.different == 0
    assert result.verdict == "different: the same tokens mean actions 0.002 apart"


def test_grey_frames_cannot_prove_anything(converted: RT1Policy, frames: np.ndarray) -> None:
    grey = np.repeat(frames[..., :1], 3, -1)
    result = compare(converted, Recording(actions_of(converted, grey)), grey, TABLE.texts[0])
    assert result.control == 0 and not result.passed
    assert result.verdict.startswith("no power")


def test_too_few_frames_are_refused(converted: RT1Policy, frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected at least 8 frames"):
        compare(converted, converted, frames[:7], TABLE.texts[0])


def test_what_cannot_be_compared_is_refused_before_tensorflow_starts(
    tmp_path: Path, frames: np.ndarray
) -> None:
    nothing = InstructionTable((), np.zeros((0, 512), np.float32))
    save_rt1(tmp_path / "a.safetensors", make_network(), GOOGLE_ROBOT, nothing, {})
    np.savez(tmp_path / "frames.npz", frames=frames)
    paths = [str(tmp_path / name) for name in ("a.safetensors", "nowhere", "frames.npz")]
    with pytest.raises(ValueError, match="found one without any"):
        verify_policy(VerifyPolicyConfig(*paths))
    with pytest.raises(ValueError, match="expected steps >= 8, found -1"):
        verify_policy(VerifyPolicyConfig(*paths, steps=-1))


def test_the_table_shows_every_field_and_the_verdict(
    converted: RT1Policy, frames: np.ndarray
) -> None:
    actions = one_token_higher(actions_of(converted, frames), 5, "rotation_delta")
    result = compare(converted, Recording(actions), frames, TABLE.texts[0])
    lines = to_table(result).splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:8]}
    assert rows["rotation_delta"] == ["27", "26", "0", "1", "0.012"]
    assert rows["all"] == ["99", "98", "0", "1", "0.012"]
    assert f"{result.control} of 99 tokens" in lines[8]
    assert lines[-1] == "different: 1 of 99 tokens (9 steps)"


def test_noise_and_stills_are_warned_of(frames: np.ndarray) -> None:
    noise = np.random.default_rng(0).integers(0, 256, frames.shape, np.uint8)
    assert find_weakness(frames) == ()
    assert "noise" in find_weakness(noise)[0]
    assert "noise or nothing" in find_weakness(np.zeros_like(frames))[0]
    assert "all frames are the same" in find_weakness(np.repeat(frames[:1], 9, 0))[0]


def test_real_frames_are_not_taken_for_noise() -> None:
    if "V2W_TEST_DATA" not in os.environ:
        pytest.skip("V2W_TEST_DATA does not name the folder of recordings")
    path = Path(os.environ["V2W_TEST_DATA"], "fractal_frames", "fractal_sample.npz")
    frames = load_frames(path, 8)
    assert frames.shape == (8, 256, 320, 3)
    assert find_weakness(frames) == ()


def test_frames_are_read_from_recordings_and_images(tmp_path: Path, frames: np.ndarray) -> None:
    np.savez(tmp_path / "episode.npz", frames=frames, actions=np.zeros(3))
    np.savez(tmp_path / "sample.npz", image=frames)
    for number, frame in enumerate(frames):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(frame).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    for path in ("episode.npz", "sample.npz", "images", "images#0"):
        assert (load_frames(tmp_path / path, 5) == frames[:5]).all()


def test_what_holds_no_frames_is_refused(tmp_path: Path, frames: np.ndarray) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.npz, found nothing"):
        load_frames(tmp_path / "nothing.npz", 8)
    with pytest.raises(ValueError, match="in a known format .*, found none"):
        load_frames(tmp_path, 8)
    np.savez(tmp_path / "other.npz", state=np.zeros(3))
    with pytest.raises(ValueError, match=r"found \['state'\]"):
        load_frames(tmp_path / "other.npz", 8)
    np.savez(tmp_path / "floats.npz", image=frames / 255)
    with pytest.raises(ValueError, match=r"found \['float64 \(9, 64, 64, 3\)'\]"):
        load_frames(tmp_path / "floats.npz", 8)
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(ValueError, match=r"text.npz"):
        load_frames(tmp_path / "text.npz", 8)
    (tmp_path / "images").mkdir()
    Image.fromarray(frames[0]).save(tmp_path / "images" / "a.png")
    Image.fromarray(frames[0, :32]).save(tmp_path / "images" / "b.png")
    with pytest.raises(ValueError, match="pictures of one size"):
        load_frames(tmp_path / "images", 8)


def test_the_command_compares_a_checkpoint_with_a_saved_model(
    saved_model: Callable[..., Path],
    frames: np.ndarray,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The SavedModel repeats what the network chose."""
    network = make_network()
    save_rt1(tmp_path / "mine.safetensors", network, GOOGLE_ROBOT, TABLE, {}, dtype=torch.float32)
    np.savez(tmp_path / "frames.npz", image=frames)
    np.save(
        tmp_path / "actions.npy",
        actions_of(RT1Policy(network, GOOGLE_ROBOT, TABLE, "mine"), frames),
    )
    cfg = VerifyPolicyConfig(
        converted=str(tmp_path / "mine.safetensors"),
        saved_model=str(saved_model(size=[64, 64], actions=str(tmp_path / "actions.npy"))),
        frames=str(tmp_path / "frames.npz"),
        output=str(tmp_path / "result.json"),
    )
    assert main(cfg) is True
    assert "equal (9 steps)" in capsys.readouterr().out
    written = json.loads((tmp_path / "result.json").read_text())
    assert written["verdict"] == "equal" and written["total"]["tokens"] == 99
    assert written["saved_model_says"] == {"get_train_step": {"int64": "400120"}}
