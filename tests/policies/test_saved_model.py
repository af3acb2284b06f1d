"""A SavedModel as a policy: against a worker without TensorFlow, and against the real one."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from v2w_gym.configs.robots import GOOGLE_ROBOT, RECON_JACKAL
from v2w_gym.policies.conformance import PolicyConformance, roll
from v2w_gym.policies.instructions import make_table
from v2w_gym.policies.saved_model import SavedModelPolicy, fingerprint_of, load_saved_model
from v2w_gym.policies.tensorflow.client import SCRIPT, Worker

FAKE = Path(__file__).parent / "tensorflow" / "fake_worker.py"
TOLD = ("close the drawer", "open the drawer")
Build = Callable[..., Path]


def fake_policy(folder: Path, *plans: list[str]) -> SavedModelPolicy:
    (folder / "plan.json").write_text(json.dumps(plans))
    (folder / "starts").unlink(missing_ok=True)
    worker = Worker(sys.executable, folder, 30.0, FAKE)
    return SavedModelPolicy(worker, GOOGLE_ROBOT, make_table(TOLD, 8), "fake")


def real_policy(path: Path) -> SavedModelPolicy:
    table = make_table(TOLD, 512)
    return load_saved_model(path, GOOGLE_ROBOT, table, os.environ["V2W_TF_PYTHON"])


def some_frames(policy: SavedModelPolicy, steps: int, slots: int) -> np.ndarray:
    assert policy.meta.image_size is not None
    size = (steps, slots, *policy.meta.image_size, 3)
    return np.random.default_rng(1).integers(0, 256, size, np.uint8)


class TestFake(PolicyConformance):
    @pytest.fixture
    def policy(self, tmp_path: Path) -> SavedModelPolicy:
        return fake_policy(tmp_path)


def test_sizes_are_those_of_the_model(tmp_path: Path) -> None:
    policy = fake_policy(tmp_path)
    assert policy.meta.image_size == (160, 160)
    assert policy.meta.history == 2
    assert policy.meta.control_hz == 3
    policy.close()


def test_what_was_seen_and_how_long_ago_matters(tmp_path: Path) -> None:
    policy = fake_policy(tmp_path)
    frames = some_frames(policy, 4, 1)
    last = roll(policy, frames, TOLD)[-1]
    for step, matters in enumerate([False, True, True, True]):  # two frames and the newest
        changed = frames.copy()
        changed[step] //= 2
        assert (roll(policy, changed, TOLD)[-1] != last).any() == matters
    assert (roll(policy, frames[1:], TOLD)[-1] != last).any()  # the count of steps is state, too
    policy.close()


def test_values_beyond_the_bounds_are_passed_on(tmp_path: Path) -> None:
    policy = fake_policy(tmp_path)
    actions = roll(policy, some_frames(policy, 9, 1), TOLD)
    assert np.abs(actions[..., GOOGLE_ROBOT.slices["world_vector"]]).max() > 1
    policy.close()


def test_a_lost_worker_is_an_event_of_the_slot_that_was_asked(tmp_path: Path) -> None:
    calm = fake_policy(tmp_path)
    frames = some_frames(calm, 3, 2)
    expected = roll(calm, frames, TOLD)
    calm.close()
    # Turns: greeting, description, state, then slots 0 and 1 in turn. Slot 1 loses two in step 1.
    policy = fake_policy(tmp_path, ["ok"] * 6 + ["die"], ["ok", "half"])
    policy.reset(TOLD, seeds=[0, 1])
    answers = [policy.act(now, np.ones(2, bool)) for now in frames]
    assert (np.stack([answer.actions for answer in answers]) == expected).all()
    restarted = (1, "worker restarted")
    assert [answer.events for answer in answers] == [(), (restarted, restarted), ()]
    policy.close()


@pytest.mark.parametrize(
    ("part", "change", "error"),
    [
        ("inputs", {"0/observation/image": ["float32", [-1, 8, 8, 3]]}, "expected a policy with"),
        ("inputs", {"0/observation/natural_language_embedding": None}, "found none"),
        ("inputs", {"1/lost": ["float32", [-1]]}, r"returns its state \['image', 'lost'"),
        ("outputs", {"action/world_vector": None}, "expected a policy with outputs"),
        (
            "outputs",
            {"action/world_vector": ["float32", [-1, 7]]},
            "expected a policy with outputs",
        ),
        (
            "outputs",
            {"action/open_gripper": ["float32", [-1, 1]]},
            "expected a policy with outputs",
        ),
    ],
)
def test_models_of_another_kind_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str, change: dict, error: str
) -> None:
    request = Worker.request

    def changed(worker, kind, arrays=None):
        answer = request(worker, kind, arrays)
        if kind != "describe":
            return answer
        kinds = {k: v for k, v in {**answer.info[part], **change}.items() if v is not None}
        return replace(answer, info={**answer.info, part: kinds})

    monkeypatch.setattr(Worker, "request", changed)
    with pytest.raises(ValueError, match=error):
        fake_policy(tmp_path)


def test_shapes_that_the_model_does_not_tell_are_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Worker.request

    def vague(worker, kind, arrays=None):
        answer = request(worker, kind, arrays)
        if kind != "describe":
            return answer
        outputs = {**answer.info["outputs"], "action/world_vector": ["float32", []]}
        return replace(answer, info={**answer.info, "outputs": outputs})

    monkeypatch.setattr(Worker, "request", vague)
    policy = fake_policy(tmp_path)
    assert np.isfinite(roll(policy, some_frames(policy, 1, 1), TOLD)).all()
    policy.close()


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    policy = fake_policy(tmp_path)
    with pytest.raises(ValueError, match="expected instructions as vectors of 8 values, found 9"):
        SavedModelPolicy(policy._worker, GOOGLE_ROBOT, make_table(TOLD, 9), "fake")
    with pytest.raises(ValueError, match="expected a robot with actions 'fractal13'"):
        SavedModelPolicy(policy._worker, RECON_JACKAL, make_table(TOLD, 8), "fake")
    with pytest.raises(ValueError, match="close the door"):
        policy.reset(["close the door"], seeds=[0])
    policy.close()


def test_a_folder_that_is_no_saved_model_is_refused_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> None:
        load_saved_model(tmp_path, GOOGLE_ROBOT, make_table(TOLD, 512), "/nowhere/python")

    with pytest.raises(FileNotFoundError, match=r"found no .*saved_model.pb; unpack"):
        load()
    graph = tmp_path / "saved_model.pb"
    graph.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(ValueError, match=r"git-LFS pointer to it; run `git lfs pull`"):
        load()
    graph.write_bytes(b"graph")
    with pytest.raises(FileNotFoundError, match=r"variables/variables.index"):
        load()


@pytest.mark.slow
class TestReal(PolicyConformance):
    @pytest.fixture
    def policy(self, saved_model: Build) -> SavedModelPolicy:
        return real_policy(saved_model())


@pytest.fixture(scope="module")
def real(saved_model: Build) -> Iterator[SavedModelPolicy]:
    policy = real_policy(saved_model())
    yield policy
    policy.close()


@pytest.mark.slow
class TestTensorFlow:
    def test_the_model_describes_itself(self, real: SavedModelPolicy) -> None:
        assert real.meta.image_size == (256, 320)
        assert real.meta.history == 6
        assert real.description["says"] == {"get_train_step": {"int64": "400120"}}
        assert real.description["inputs"]["1/action_tokens"] == ["int32", [-1, 6, 11, 1, 1]]
        assert real.description["inputs"]["0/observation/natural_language_instruction"] == [
            "string",
            [-1],
        ]

    def test_a_worker_killed_in_mid_episode_changes_nothing(self, real: SavedModelPolicy) -> None:
        frames = some_frames(real, 10, 2)
        expected = roll(real, frames, TOLD)
        real.reset(TOLD, seeds=[0, 1])
        actions, events = [], list[tuple[int, str]]()
        for step, now in enumerate(frames):
            if step == 7:
                os.kill(real._worker._process.pid, 9)
            answer = real.act(now, np.ones(2, bool))
            actions.append(answer.actions)
            events += answer.events
        assert (np.stack(actions) == expected).all()
        assert events == [(0, "worker restarted")]

    def test_every_frame_in_memory_the_instruction_and_the_count_matter(
        self, real: SavedModelPolicy
    ) -> None:
        frames = some_frames(real, 7, 1)
        last = roll(real, frames, TOLD)[-1]
        for step in range(1, 7):
            changed = frames.copy()
            changed[step] //= 2
            assert (roll(real, changed, TOLD)[-1] != last).any()
        assert (roll(real, frames, TOLD[::-1])[-1] != last).any()
        assert (roll(real, frames[1:], TOLD)[-1] != last).any()

    def test_first_would_reset_the_state(
        self, saved_model: Build, real: SavedModelPolicy, tmp_path: Path
    ) -> None:
        """The mistake that nothing reports: with step_type 0 the same worker forgets."""
        for name in ("worker.py", "framing.py"):
            shutil.copy(SCRIPT.with_name(name), tmp_path)
        script = tmp_path / "worker.py"
        text = script.read_text()
        assert '"0/step_type": 1' in text
        script.write_text(text.replace('"0/step_type": 1', '"0/step_type": 0'))
        wrong = Worker(os.environ["V2W_TF_PYTHON"], saved_model(), 60.0, script)
        forgetful = SavedModelPolicy(wrong, GOOGLE_ROBOT, make_table(TOLD, 512), "wrong")
        frames = some_frames(real, 3, 1)
        assert (roll(forgetful, frames, TOLD)[-1] != roll(real, frames, TOLD)[-1]).any()
        forgetful.close()

    def test_a_model_saved_for_one_episode_acts_the_same(
        self, real: SavedModelPolicy, saved_model: Build
    ) -> None:
        fixed = real_policy(saved_model(fixed_batch=True))
        frames = some_frames(real, 3, 1)
        assert (roll(fixed, frames, TOLD) == roll(real, frames, TOLD)).all()
        fixed.close()

    def test_what_the_graph_refuses_is_told_in_one_line(self, real: SavedModelPolicy) -> None:
        losses = real._worker.losses
        with pytest.raises(ValueError, match="answered: ValueError: expected inputs of the model"):
            real._worker.request("act", {"observation/image": np.zeros((1, 256, 320, 3), np.uint8)})
        state = real._worker.request("initial_state").arrays
        with pytest.raises(ValueError, match=r"answered: ValueError: Cannot feed value of shape"):
            real._worker.request("act", {**state, "observation/image": np.zeros((1, 2, 2, 3))})
        assert real._worker.losses == losses

    def test_a_damaged_graph_is_refused(self, saved_model: Build, tmp_path: Path) -> None:
        broken = Path(shutil.copytree(saved_model(), tmp_path / "broken"))
        (broken / "saved_model.pb").write_bytes(b"not a graph")
        with pytest.raises(ValueError, match="answered: "):
            real_policy(broken)

    def test_the_fingerprint_is_that_of_the_weights(
        self, saved_model: Build, tmp_path: Path
    ) -> None:
        copy = Path(shutil.copytree(saved_model(), tmp_path / "copy"))
        assert fingerprint_of(copy) == fingerprint_of(saved_model())
        index = copy / "variables" / "variables.index"
        assert fingerprint_of(saved_model(fixed_batch=True)) != fingerprint_of(copy)
        index.unlink()
        with pytest.raises(FileNotFoundError):
            fingerprint_of(copy)
