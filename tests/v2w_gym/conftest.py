"""A world and a judge simple enough to predict by hand."""

import importlib.util
import sys
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest
import torch

from v2w_gym.configs.robots import STANDIN_SAWYER
from v2w_gym.world_models.copy_last import CopyLast
from v2w_gym.world_models.frames import to_uint8


class NoisyWorld:
    """The next frame depends on history, action and noise.

    Pixel (0, 0) is white exactly when the gripper closes fully; the rest is noise on the mean of
    the frames of the history, so a wrong history, key or row shows. So does the noise of the start,
    which is added to the newest frame of the history and not to the one that is shown.
    """

    def __init__(self, context_frames=1):
        self.robot = STANDIN_SAWYER
        self.window = 4
        self.context_frames = context_frames
        self.begun = []
        self.batches = []

    def start(self, frames, actions, noise):
        self.begun.append((frames, actions, noise.frames))
        state = CopyLast(self.robot, self.window).start(frames, actions, noise)
        newest = state.latents[:, -1:] + noise.normal(1, state.latents.shape[2:])[:, None]
        return replace(state, latents=torch.cat([state.latents[:, :-1], newest], 1))

    def step(self, state, actions, noise):
        self.batches.append(len(state))
        motion = torch.from_numpy(actions[:, self.robot.slices["world_vector"]])
        closing = torch.from_numpy(actions[:, self.robot.slices["gripper_closedness_action"]])
        mean = state.latents.sum(1) / state.lengths[:, None, None, None]
        frame = mean + 0.2 * noise.normal(0, tuple(mean.shape[1:]))
        frame = (frame + 5 * motion[:, :, None, None]).clamp(-1, 1)
        frame[:, :, 0, 0] = closing
        return state.followed(frame, torch.from_numpy(actions))

    def render(self, state):
        return to_uint8(state.latents[:, -1])


class WhiteDotJudge:
    """Calls a frame solved when its first pixel is white; `NoisyWorld` draws that dot."""

    def __init__(self):
        self.calls = []

    def success(self, frames, task):
        self.calls.append((frames.shape, task))
        return frames[:, -1, 0, 0, 0] == 255


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def metaworld():
    """Skip without metaworld; importing it here would choose MuJoCo's renderer too early."""
    if importlib.util.find_spec("metaworld") is None:
        pytest.skip("the stand-in robot needs metaworld: pip install '.[standin]'")


@pytest.fixture
def world():
    return NoisyWorld()


@pytest.fixture
def many_frames():
    """A world that is made to begin with three frames."""
    return NoisyWorld(context_frames=3)


@pytest.fixture
def judge():
    return WhiteDotJudge()


@pytest.fixture
def act():
    """Actions of the stand-in: `act(x=..., close=..., end=...)`."""

    def make(x=0.0, close=0.0, end=False):
        ending = {"terminate_episode": np.array([1, 0, 0])} if end else {}
        return STANDIN_SAWYER.make_action(
            world_vector=np.array([x, 0, 0]), gripper_closedness_action=close, **ending
        )

    return make


@pytest.fixture
def pretend(monkeypatch):
    """Let loading return a world: `pretend(world)` returns the list of requested settings."""

    def loads(world):
        requests = []

        def load_with(settings):
            requests.append(settings)
            return world

        loading = ModuleType("v2w_gym.world_models.loading")
        loading.load_with = load_with
        monkeypatch.setitem(sys.modules, "v2w_gym.world_models.loading", loading)
        return requests

    return loads


@pytest.fixture
def bundled(pretend, world):
    """Let loading return `world`; returns the list of requested settings."""
    return pretend(world)


@pytest.fixture
def frames_of():
    """Random frames of a robot's camera: `frames_of(robot, count)`, (count, H, W, 3) uint8."""
    return lambda robot, count=1: np.random.default_rng(count).integers(
        0, 256, (count, *robot.frame_size, 3), np.uint8
    )
