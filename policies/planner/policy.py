"""The planner as a policy, and its checkpoints."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2w_gym.configs.action_layouts import HAND
from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.policies.base import ActionBatch, PolicyMeta, check_frames, check_reset, renew
from v2w_gym.policies.cards import as_on_card, check_card
from v2w_gym.policies.instructions import normalise
from v2w_gym.policies.planner.controller import PLANS, Plan, Scene
from v2w_gym.policies.planner.perception import PerceptionNetwork, check_channels, to_pixels
from v2w_gym.world_models.checkpoint import (
    check_finite,
    load_checkpoint,
    make_network,
    save_checkpoint,
)

KIND = "planner"


class PlannerPolicy:
    """Reads positions from the newest frame and moves the hand towards the next waypoint.

    Its only state is the instruction. Slots are computed one by one, because the last bits of a
    matrix product depend on the batch, and a policy's actions must not.
    """

    def __init__(
        self, network: PerceptionNetwork, robot: RobotSpec, name: str, fingerprint: str = ""
    ) -> None:
        """Wrap a trained network."""
        self.meta = PolicyMeta(
            name,
            robot.action_layout.name,
            robot.frame_size,
            robot.control_hz,
            history=1,
            fingerprint=fingerprint,
        )
        self._network = network.eval()
        self._robot = robot
        self._instructions: list[str] = []
        self._plans: list[Plan] = []

    def reset(
        self,
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        slots: Sequence[int] | None = None,
    ) -> None:
        """See `Policy.reset`; the seeds are ignored."""
        check_reset(self.meta, instructions, seeds, slots, len(self._instructions))
        renewed = renew(self._instructions, instructions, slots)
        self._plans = [lookup(PLANS, normalise(text), "instruction") for text in renewed]
        self._instructions = renewed

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
        """See `Policy.act`."""
        check_frames(self.meta, len(self._plans), frames, active)
        actions = np.tile(self._robot.make_action(), (len(frames), 1, 1))
        for slot in np.flatnonzero(active):
            scene = perceive(self._network, frames[slot])
            actions[slot] = towards(self._plans[slot](scene), scene.hand, self._robot)
        return ActionBatch(actions)

    def close(self) -> None:
        """See `Policy.close`."""


def towards(
    target: NDArray[np.float64], hand: NDArray[np.float64], robot: RobotSpec
) -> NDArray[np.float32]:
    """Return the action (A,) that moves the hand (3,) to the target (3,), within the bounds."""
    motion = robot.slices[HAND]
    way = np.clip(target - hand, robot.low[motion], robot.high[motion])
    return robot.make_action(world_vector=way.astype(np.float32))


@torch.no_grad()
def perceive(network: PerceptionNetwork, frame: NDArray[np.uint8]) -> Scene:
    """Return the scene in one frame (H, W, 3)."""
    values = network(to_pixels(frame[None]))[0].double().numpy()
    return Scene(values[:3], float(values[3]), float(values[4]))


def save_planner(
    path: Path, network: PerceptionNetwork, robot: RobotSpec, provenance: Mapping[str, Any]
) -> None:
    """Write a checkpoint in half precision; the JSON values of `provenance` go on its card.

    Raises:
        OSError: The file cannot be written.
        ValueError: Weights are not finite, or overflow half precision.
    """
    weights = {name: value.half() for name, value in network.state_dict().items()}
    check_finite(path, weights)
    channels = list(network.channels)
    save_checkpoint(
        path, weights, {"kind": KIND, "robot": robot.name, "channels": channels, **provenance}
    )


def load_planner(path: Path, robot: RobotSpec) -> PlannerPolicy:
    """Read a checkpoint; the policy is named after the file.

    Raises:
        FileNotFoundError: No checkpoint at `path`.
        ValueError: The file is damaged, no planner's checkpoint, or for another robot.
    """
    weights, card = load_checkpoint(path)
    check_card(path, card, KIND, robot, "channels")
    with as_on_card(path):
        check_channels(card["channels"])
    network = make_network(path, lambda: PerceptionNetwork(card["channels"]), weights)
    return PlannerPolicy(network, robot, path.stem, card["sha256"])
