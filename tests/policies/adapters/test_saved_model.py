"""A SavedModel as a policy: files that are none, and what TensorFlow makes of real ones."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from v2w_gym.configs.robots import GOOGLE_ROBOT, RECON_JACKAL
from v2w_gym.policies.adapters import saved_model_server
from v2w_gym.policies.adapters.saved_model import find_python, fingerprint_of, load_saved_model
from v2w_gym.policies.adapters.saved_model_server import ACTION, IMAGE, INSTRUCTION, NEXT_STATE
from v2w_gym.policies.base import Policy
from v2w_gym.policies.conformance import PolicyConformance, roll
from v2w_gym.policies.instructions import make_table
from v2w_gym.policies.remote.started import StartedPolicy

INSTRUCTIONS = ("close the drawer", "open the drawer")
Build = Callable[..., Path]


def load(path: Path, size: int = 512) -> StartedPolicy:
    return load_saved_model(path, GOOGLE_ROBOT, make_table(INSTRUCTIONS, size))


def some_frames(policy: Policy, steps: int, slots: int) -> np.ndarray:
    assert policy.meta.image_size is not None
    size = (steps, slots, *policy.meta.image_size, 3)
    return np.random.default_rng(1).integers(0, 256, size, np.uint8)


class FakeGraph:
    """Inputs and outputs of a graph that was never loaded."""

    def __init__(self, changes: Mapping[str, Mapping[str, object]]) -> None:
        state = {"image": ("uint8", [-1, 2, 8, 8, 3]), "step_num": ("int32", [-1, 1])}
        fields = {f"{ACTION}{f.name}": ("float32", [-1, f.size]) for f in GOOGLE_ROBOT.fields}
        inputs = {IMAGE: ("uint8", [-1, 8, 8, 3]), INSTRUCTION: ("float32", [-1, 8])}
        inputs |= {f"1/{name}": kind for name, kind in state.items()}
        outputs = {**fields, **{f"{NEXT_STATE}{name}": kind for name, kind in state.items()}}
        self.inputs = changed(inputs, changes.get("inputs", {}))
        self.outputs = changed(outputs, changes.get("outputs", {}))

    def initial_state(self) -> dict[str, np.ndarray]:
        return {}

    def act(self, given: object) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        return {f.name: np.full((1, f.size), 2.5) for f in GOOGLE_ROBOT.fields}, {}


def changed(kinds: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    return {name: kind for name, kind in {**kinds, **changes}.items() if kind is not None}


@pytest.mark.parametrize(
    ("part", "change", "error"),
    [
        ("inputs", {IMAGE: ["float32", [-1, 8, 8, 3]]}, "expected a policy with"),
        ("inputs", {INSTRUCTION: None}, "found none"),
        ("inputs", {"1/lost": ["float32", [-1]]}, r"returns its state \['image', 'lost'"),
        ("outputs", {"action/world_vector": None}, "expected a policy with outputs"),
        ("outputs", {"action/world_vector": ["float32", [-1, 7]]}, "policy with outputs"),
        ("outputs", {"action/open_gripper": ["float32", [-1, 1]]}, "policy with outputs"),
    ],
)
def test_models_of_another_kind_are_refused(part: str, change: dict, error: str) -> None:
    with pytest.raises(ValueError, match=error):
        saved_model_server.check_model(FakeGraph({part: change}))


def test_shapes_that_the_model_does_not_tell_are_accepted() -> None:
    vague = {"action/world_vector": ["float32", []], "action/rotation_delta": ["float32", [-1, -1]]}
    saved_model_server.check_model(FakeGraph({"outputs": vague}))


def test_values_beyond_the_bounds_are_passed_on() -> None:
    vectors = dict(zip(INSTRUCTIONS, make_table(INSTRUCTIONS, 8).vectors, strict=True))
    policy = saved_model_server.policy_of(FakeGraph({}), vectors, "fake", "")
    assert policy.meta.image_size == (8, 8) and policy.meta.history == 2
    assert (roll(policy, some_frames(policy, 1, 1), INSTRUCTIONS) == 2.5).all()


def test_another_robot_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a robot with actions 'fractal13'"):
        load_saved_model(tmp_path, RECON_JACKAL, make_table(INSTRUCTIONS, 8), "/nowhere/python")


def test_a_folder_that_is_no_saved_model_is_refused_before_anything_is_started(
    tmp_path: Path,
) -> None:
    def load() -> None:
        load_saved_model(tmp_path, GOOGLE_ROBOT, make_table(INSTRUCTIONS, 512), "/nowhere/python")

    with pytest.raises(FileNotFoundError, match=r"found no .*saved_model.pb; unpack"):
        load()
    graph = tmp_path / "saved_model.pb"
    graph.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(FileNotFoundError, match=r"variables/variables.index"):
        load()
    (tmp_path / "variables.index").write_bytes(b"index")
    with pytest.raises(ValueError, match=r"git-LFS pointer to it; run `git lfs pull`"):
        load()


class TestFindPython:
    @pytest.fixture(autouse=True)
    def nothing_set(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("V2W_TF_PYTHON", raising=False)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    def test_what_is_given_comes_first(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("V2W_TF_PYTHON", "/bin/sh")
        assert find_python(sys.executable) == sys.executable

    def test_then_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("V2W_TF_PYTHON", "/bin/sh")
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        assert find_python(None) == "/bin/sh"

    def test_then_this_interpreter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        assert find_python(None) == sys.executable

    def test_without_any_it_says_how_to_make_one(self) -> None:
        with pytest.raises(ValueError, match=r"found none; run: pip install '.\[tensorflow\]'"):
            find_python(None)

    def test_one_that_is_not_there_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
        with pytest.raises(ValueError, match="found /nowhere/python; run"):
            find_python("/nowhere/python")


@pytest.fixture(scope="module")
def real(saved_model: Build) -> Iterator[StartedPolicy]:
    """One server for all tests, as starting it is what takes time."""
    policy = load(saved_model())
    yield policy
    policy.close()


class TestConformance(PolicyConformance):
    @pytest.fixture
    def policy(self, real: StartedPolicy, monkeypatch: pytest.MonkeyPatch) -> StartedPolicy:
        monkeypatch.setattr(real, "close", lambda: None)
        return real


class TestTensorFlow:
    def test_the_model_describes_itself(self, real: StartedPolicy) -> None:
        assert real.meta.image_size == (256, 320)
        assert real.meta.history == 6
        assert real.meta.control_hz == 3
        assert real.metadata["says"] == {"get_train_step": {"int64": "400120"}}

    def test_a_server_killed_in_mid_episode_changes_nothing(self, real: StartedPolicy) -> None:
        frames = some_frames(real, 10, 2)
        expected = roll(real, frames, INSTRUCTIONS)
        real.reset(INSTRUCTIONS, seeds=[0, 1])
        actions, events = [], list[tuple[int, str]]()
        for step, now in enumerate(frames):
            if step == 7:
                os.kill(real._process._process.pid, 9)
            answer = real.act(now, np.ones(2, bool))
            actions.append(answer.actions)
            events += answer.events
        assert (np.stack(actions) == expected).all()
        assert events == [(0, "server restarted"), (1, "server restarted")]

    def test_every_frame_of_the_history_the_instruction_and_the_count_matter(
        self, real: StartedPolicy
    ) -> None:
        frames = some_frames(real, 7, 1)
        last = roll(real, frames, INSTRUCTIONS)[-1]
        for step in range(1, 7):
            changed = frames.copy()
            changed[step] //= 2
            assert (roll(real, changed, INSTRUCTIONS)[-1] != last).any()
        assert (roll(real, frames, INSTRUCTIONS[::-1])[-1] != last).any()
        assert (roll(real, frames[1:], INSTRUCTIONS)[-1] != last).any()

    def test_an_unknown_instruction_is_refused_before_the_server_hears_of_it(
        self, real: StartedPolicy
    ) -> None:
        with pytest.raises(ValueError, match="found 'close the door'; did you mean"):
            real.reset(["close the door"], seeds=[0])
        real.reset(["Close the drawer!"], seeds=[0])

    def test_the_fingerprint_is_that_of_the_weights(
        self, saved_model: Build, real: StartedPolicy, tmp_path: Path
    ) -> None:
        copy = Path(shutil.copytree(saved_model(), tmp_path / "copy"))
        assert fingerprint_of(copy) == fingerprint_of(saved_model()) == real.meta.fingerprint
        assert fingerprint_of(saved_model(fixed_batch=True)) != fingerprint_of(copy)


class TestGraph:
    """In this process, where TensorFlow is already imported."""

    def act(self, path: Path) -> np.ndarray:
        graph = saved_model_server.Graph(str(path))
        vectors = dict(zip(INSTRUCTIONS, make_table(INSTRUCTIONS, 512).vectors, strict=True))
        policy = saved_model_server.policy_of(graph, vectors, "model", "")
        return roll(policy, some_frames(policy, 3, 1), INSTRUCTIONS)

    def test_vectors_of_another_size_are_refused(self, saved_model: Build) -> None:
        settings = {"path": str(saved_model()), "vectors": np.ones((1, 9), np.float32)}
        with pytest.raises(ValueError, match="expected instructions as vectors of 512 .* found 9"):
            saved_model_server.build(settings)

    def test_a_damaged_graph_is_refused(self, saved_model: Build, tmp_path: Path) -> None:
        broken = Path(shutil.copytree(saved_model(), tmp_path / "broken"))
        (broken / "saved_model.pb").write_bytes(b"not a graph")
        with pytest.raises(OSError, match=r"saved_model.pb"):
            saved_model_server.Graph(str(broken))

    def test_first_would_reset_the_state(
        self, saved_model: Build, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The mistake that nothing reports: with step_type 0 the same graph forgets."""
        right = self.act(saved_model())
        monkeypatch.setitem(saved_model_server.CONSTANTS, "0/step_type", 0)  # type: ignore[arg-type]
        assert (self.act(saved_model()) != right).any()

    def test_a_model_saved_for_one_episode_acts_the_same(self, saved_model: Build) -> None:
        assert (self.act(saved_model()) == self.act(saved_model(fixed_batch=True))).all()
