"""The stand-in robot's simulator: Meta-World's Sawyer arm, a drawer and a camera.

This is a physics simulation (MuJoCo), not a real robot. It needs `pip install .[standin]`.
"""

import atexit
import importlib
import os
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakSet

import numpy as np
from numpy.typing import NDArray

from v2w_gym.standin.drawer import drawer_task

HELD_STEPS = 5
"""Simulator steps (12.5 ms each) for which one action is held; see `Sawyer.hold`."""
REACH = 0.01
"""Metres the arm's target moves in one simulator step at full deflection."""
RENDER_SCALE = 2
"""Frames are rendered this much larger and averaged, so edges carry sub-pixel positions."""
WORKSPACE = np.array([[-0.20, 0.42, 0.05], [0.20, 0.85, 0.28]])
"""Lowest and highest hand position, in metres; the camera sees this box."""
HAND_START = np.array([[-0.10, 0.44, 0.10], [0.10, 0.52, 0.24]])
"""Box of hand positions at the start of an episode, metres."""
DRAWER_START = np.array([-0.10, 0.10])
"""Range of the cabinet's sideways position, metres: Meta-World's own."""
CAMERA = {"lookat": (0.0, 0.67, 0.11), "distance": 0.88, "azimuth": 170.0, "elevation": -40.0}
DRAWER_JOINT = "goal_slidey"


@dataclass(frozen=True)
class StandinState:
    """The simulator's state.

    Attributes:
        hand: (3,) position in metres.
        handle: (3,) position of the drawer handle in metres.
        opening: Opening of the drawer in metres.
        gripper: Command in [-1 open, 1 closed].
    """

    hand: NDArray[np.float64]
    handle: NDArray[np.float64]
    opening: float
    gripper: float


class Sawyer:
    """One arm in front of one drawer. Its motion depends on its start and commands alone."""

    def __init__(self, task: str, frame_size: tuple[int, int]) -> None:
        """Load the simulator.

        Args:
            task: Key in `DRAWER_TASKS`; it decides whether the drawer begins open or closed.
            frame_size: Height and width of the camera's frames, in pixels.

        Raises:
            ModuleNotFoundError: The `standin` extra is not installed.
        """
        self._mujoco = load_mujoco()
        self._frame_size = frame_size
        self._renderer: Any = None
        self._gripper = -1.0
        self.simulator = _make_simulator(drawer_task(task).simulator)

    def begin(self, rng: np.random.Generator) -> None:
        """Place hand and cabinet at positions drawn from `rng`."""
        simulator = self.simulator
        hand = rng.uniform(HAND_START[0], HAND_START[1])
        drawer_x = rng.uniform(DRAWER_START[0], DRAWER_START[1])
        self._mujoco.mj_resetData(simulator.model, simulator.data)
        simulator.hand_init_pos = hand
        simulator._last_rand_vec = np.array([drawer_x, 0.9, 0.0])
        simulator.curr_path_length = 0
        simulator.set_state(simulator.init_qpos, simulator.init_qvel)
        simulator.reset_model()
        self._mujoco.mj_forward(simulator.model, simulator.data)
        simulator._prev_obs = simulator._get_curr_obs_combined_no_goal()
        self._gripper = -1.0

    def hold(self, displacement: NDArray[np.float32], gripper_change: float) -> None:
        """Move the hand by `displacement` (3,), in metres, and change the gripper's closedness.

        An action is held for `HELD_STEPS` simulator steps and counts as one step of a 3 Hz robot.
        The displacement per step matches that robot; the simulated time does not.
        """
        self._gripper = float(np.clip(self._gripper + gripper_change, -1, 1))
        command = np.append(displacement / (HELD_STEPS * REACH), self._gripper)
        for _ in range(HELD_STEPS):
            self.simulator.step(command.astype(np.float32))

    @property
    def state(self) -> StandinState:
        """The simulator's state, for experts, labels and ground truth."""
        observation = self.simulator._get_curr_obs_combined_no_goal()
        opening = -float(self.simulator.data.joint(DRAWER_JOINT).qpos[0])
        return StandinState(observation[:3].copy(), observation[4:7].copy(), opening, self._gripper)

    @property
    def observation(self) -> NDArray[np.float64]:
        """Meta-World's observation (39,), the input of its expert policies."""
        return np.asarray(self.simulator._get_obs(), np.float64)

    def photograph(self) -> NDArray[np.uint8]:
        """Render the camera's frame (H, W, 3), uint8."""
        height, width = self._frame_size
        if self._renderer is None:
            self._renderer = self._mujoco.Renderer(
                self.simulator.model, height * RENDER_SCALE, width * RENDER_SCALE
            )
            _rendering.add(self)
            _free_at_exit()
        self._renderer.update_scene(self.simulator.data, camera=_camera(self._mujoco))
        flags = self._renderer.scene.flags
        flags[self._mujoco.mjtRndFlag.mjRND_SHADOW] = False
        flags[self._mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        large = self._renderer.render().reshape(height, RENDER_SCALE, width, RENDER_SCALE, 3)
        return np.asarray(large.mean(axis=(1, 3)).round(), np.uint8)

    def close(self) -> None:
        """Free the renderer; safe to call twice."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


_rendering: WeakSet[Sawyer] = WeakSet()
"""Robots that hold a renderer."""


@cache
def _free_at_exit() -> None:
    """Free every open renderer when the interpreter exits.

    MuJoCo's first renderer registers an exit hook that shuts OpenGL down. Exit hooks run in reverse
    order, so this one is registered after it.
    """
    atexit.register(_free_all)


def _free_all() -> None:
    for sawyer in _rendering:
        sawyer.close()


def load_mujoco() -> Any:
    """Import the simulator and choose how it renders.

    Raises:
        ModuleNotFoundError: The `standin` extra is not installed.
    """
    _choose_renderer()
    # In a forked process, Mesa's software renderer would wait for threads that do not exist.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    try:
        import metaworld  # noqa: F401
        import mujoco
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the stand-in robot needs {error.name!r}, which is not installed; "
            "run: pip install '.[standin]'"
        ) from error
    return mujoco


def _choose_renderer() -> None:
    """Render without a screen, unless the environment chooses otherwise.

    MuJoCo reads the choice when it is imported. A program that imported it before without a choice
    would get windows, which need a display.
    """
    if "MUJOCO_GL" not in os.environ:
        os.environ["MUJOCO_GL"] = "egl"
        if "mujoco.gl_context" in sys.modules:
            importlib.reload(sys.modules["mujoco.gl_context"])


def _camera(mujoco: Any) -> Any:
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE
    camera.lookat[:] = CAMERA["lookat"]
    camera.distance = CAMERA["distance"]
    camera.azimuth = CAMERA["azimuth"]
    camera.elevation = CAMERA["elevation"]
    return camera


def _make_simulator(name: str) -> Any:
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    simulator = ALL_V3_ENVIRONMENTS[name]()
    simulator._set_task_called = True
    simulator._freeze_rand_vec = True  # reset_model then reads the start that begin() chose
    simulator._partially_observable = False
    simulator.max_path_length = int(1e9)
    simulator.mocap_low, simulator.mocap_high = WORKSPACE
    simulator.model.vis.quality.shadowsize = 1024
    simulator.model.site("goal").rgba[3] = 0  # hide the goal marker
    return simulator
