"""The robot that stands in for reality: Meta-World's simulated Sawyer behind the RT-1 interface.

This is a physics simulation (MuJoCo), not a real robot. It needs `pip install .[standin]`.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from configs.robots import STANDIN_SAWYER
from v2w_gym.spaces import action_space, frame_space
from v2w_gym.tasks import find_task

SIMULATOR_STEPS = 5
"""Simulator steps (12.5 ms each) for which one action is held; see `StandinEnv`."""
SIMULATOR_REACH = 0.01
"""Metres the arm's target moves in one simulator step at full deflection."""
RENDER_SCALE = 2
"""Frames are rendered this much larger and averaged down, so edges carry sub-pixel positions."""
WORKSPACE = np.array([[-0.20, 0.42, 0.05], [0.20, 0.85, 0.28]])
"""Lowest and highest hand position, metres: what the camera sees."""
HAND_START = np.array([[-0.10, 0.44, 0.10], [0.10, 0.52, 0.24]])
"""Box of hand positions at the start of an episode, metres."""
DRAWER_START = np.array([-0.10, 0.10])
"""Range of the cabinet's sideways position, metres: Meta-World's own."""
CAMERA = {"lookat": (0.0, 0.67, 0.11), "distance": 0.88, "azimuth": 170.0, "elevation": -40.0}
METAWORLD_NAMES = {"close_drawer": "drawer-close-v3", "open_drawer": "drawer-open-v3"}
DRAWER_JOINT = "goal_slidey"
CLOSED_BELOW = 0.03
"""A drawer open by at most this much, in metres, counts as closed."""
OPEN_ABOVE = 0.12
"""A drawer open by at least this much, in metres, counts as open (its rail ends at 0.16)."""


@dataclass(frozen=True)
class StandinState:
    """What the simulator knows and a camera does not: (3,) hand and drawer handle, in metres."""

    hand: NDArray[np.float64]
    handle: NDArray[np.float64]
    opening: float
    gripper: float


class StandinEnv(gym.Env[NDArray[np.uint8], NDArray[np.float32]]):
    """One stand-in robot with a camera.

    Takes the 13 RT-1 action values (`STANDIN_SAWYER`) and returns 64 x 64 frames. An action is
    held for `SIMULATOR_STEPS` simulator steps and counts as one step of a 3 Hz robot: the
    displacement per step is the meaning that is kept, not the wall clock. `world_vector` is the
    commanded hand displacement in metres, `gripper_closedness_action` is added to the gripper's
    command in [-1 open, 1 closed]. `reset(seed=...)` fixes the start exactly.

    `info["success"]` holds at the current frame and reads the drawer's opening. Meta-World's own
    criterion for opening is not used: it asks for 0.17 m, which the arm reaches only by bending
    the rail's soft stop, and no camera could tell.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 3}

    def __init__(self, task: str = "close_drawer", render_mode: str | None = None) -> None:
        """Load the simulator.

        Raises:
            ValueError: Unknown task, or one of other robots.
            ModuleNotFoundError: The `standin` extra is not installed.
        """
        self.robot = STANDIN_SAWYER
        self.task = find_task(task, self.robot.name)
        self.render_mode = render_mode
        self.action_space = action_space(self.robot)
        self.observation_space = frame_space(self.robot)
        self._simulator = _make_simulator(METAWORLD_NAMES[task])
        self._renderer: Any = None
        self._frame: NDArray[np.uint8] | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Draw a start from the seed and put arm and cabinet there."""
        super().reset(seed=seed)
        simulator = self._simulator
        hand = self.np_random.uniform(HAND_START[0], HAND_START[1])
        drawer_x = self.np_random.uniform(DRAWER_START[0], DRAWER_START[1])
        _mujoco().mj_resetData(simulator.model, simulator.data)
        simulator.hand_init_pos = hand
        simulator._last_rand_vec = np.array([drawer_x, 0.9, 0.0])
        simulator.curr_path_length = 0
        simulator.set_state(simulator.init_qpos, simulator.init_qvel)
        simulator.reset_model()
        _mujoco().mj_forward(simulator.model, simulator.data)
        simulator._prev_obs = simulator._get_curr_obs_combined_no_goal()
        self._gripper = -1.0
        self._frame = self._camera_frame()
        return self._frame, self._info()

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Hold the action (13,) for one control step.

        Raises:
            ValueError: Wrong shape, not finite, or out of the robot's bounds.
            gymnasium.error.ResetNeeded: No reset yet.
        """
        if self._frame is None:
            raise gym.error.ResetNeeded("expected reset() before step(); call env.reset(seed=...)")
        action = self.robot.check_actions(np.asarray(action, np.float32)[None])[0]
        displacement = action[self.robot.slices["world_vector"]]
        change = float(action[self.robot.slices["gripper_closedness_action"]][0])
        self._gripper = float(np.clip(self._gripper + change, -1, 1))
        command = np.append(displacement / (SIMULATOR_STEPS * SIMULATOR_REACH), self._gripper)
        for _ in range(SIMULATOR_STEPS):
            self._simulator.step(command.astype(np.float32))
        self._frame = self._camera_frame()
        terminated = bool(self.robot.terminates(action[None])[0])
        return self._frame, float(self.success), terminated, False, self._info()

    def render(self) -> NDArray[np.uint8] | None:
        """Return the newest frame (H, W, 3), uint8."""
        return self._frame

    def close(self) -> None:
        """Free the renderer; safe to call twice."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    @property
    def state(self) -> StandinState:
        """The simulator's state, for experts, labels and judges' ground truth."""
        observation = self._simulator._get_curr_obs_combined_no_goal()
        opening = -float(self._simulator.data.joint(DRAWER_JOINT).qpos[0])
        return StandinState(observation[:3].copy(), observation[4:7].copy(), opening, self._gripper)

    @property
    def success(self) -> bool:
        """Whether the drawer is now where the task wants it."""
        opening = self.state.opening
        return (
            opening <= CLOSED_BELOW if self.task.name == "close_drawer" else opening >= OPEN_ABOVE
        )

    @property
    def simulator_observation(self) -> NDArray[np.float64]:
        """The observation (39,) that Meta-World's own expert policies read."""
        return np.asarray(self._simulator._get_obs(), np.float64)

    def _info(self) -> dict[str, Any]:
        return {
            "instruction": self.task.instruction,
            "success": self.success,
            "is_success": self.success,
        }

    def _camera_frame(self) -> NDArray[np.uint8]:
        mujoco = _mujoco()
        height, width = self.robot.frame_size
        if self._renderer is None:
            self._renderer = mujoco.Renderer(
                self._simulator.model, height * RENDER_SCALE, width * RENDER_SCALE
            )
        self._renderer.update_scene(self._simulator.data, camera=_camera(mujoco))
        flags = self._renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
        large = self._renderer.render().reshape(height, RENDER_SCALE, width, RENDER_SCALE, 3)
        return np.asarray(large.mean(axis=(1, 3)).round(), np.uint8)


def make_expert(task: str) -> Any:
    """Return Meta-World's own scripted expert: `get_action(simulator_observation)`."""
    _mujoco()
    from metaworld.policies import ENV_POLICY_MAP

    experts: Mapping[str, Any] = ENV_POLICY_MAP
    return experts[METAWORLD_NAMES[task]]()


def _mujoco() -> Any:
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        import metaworld  # noqa: F401
        import mujoco
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"the stand-in robot needs {error.name!r}, which is not installed; "
            "run: pip install '.[standin]'"
        ) from error
    return mujoco


def _camera(mujoco: Any) -> Any:
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FREE
    camera.lookat[:] = CAMERA["lookat"]
    camera.distance = CAMERA["distance"]
    camera.azimuth = CAMERA["azimuth"]
    camera.elevation = CAMERA["elevation"]
    return camera


def _make_simulator(name: str) -> Any:
    _mujoco()
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    simulator = ALL_V3_ENVIRONMENTS[name]()
    simulator._set_task_called = True
    simulator._freeze_rand_vec = True  # reset_model then reads the start that reset() chose
    simulator._partially_observable = False
    simulator.max_path_length = int(1e9)
    simulator.mocap_low, simulator.mocap_high = WORKSPACE
    simulator.model.vis.quality.shadowsize = 1024
    simulator.model.site("goal").rgba[3] = 0  # success must be read from the drawer
    return simulator
