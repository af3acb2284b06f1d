"""Settings of a policy of LeRobot: what its own config does not say."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from configs.rules import Range, Rate
from configs.values import Settings


@dataclass(frozen=True)
class LeRobotConfig(Settings):
    """What its actions mean, and how it is asked.

    Attributes:
        layout: What its actions are; a key of `configs.layouts.LAYOUTS`.
        gripper: relative, absolute, closedness, signed, signed_closedness or none; empty for what
            the layout says. See `configs.layouts.POSITIONS`.
        rotation: rpy, axis_angle or none; empty for what the layout says.
        control_hz: Actions per second it was trained with; None for any rate.
        image_key: Which of its inputs the camera's frame is.
        whole_chunks: Whether it is asked for all actions of a chunk (`predict_action_chunk`) or for
            one at a time (`select_action`), as those that remember earlier frames must be.
        zero_state: Give zeros where it wants the robot's joints, which no frame tells; only for a
            policy that was trained to do without.
        inputs: Constants for its other inputs, such as a second camera, by name; as in
            `policies.stages.constants`.
        chunk: Actions of a whole chunk; None for what its own config says.
    """

    layout: str
    gripper: str = ""
    rotation: str = ""
    control_hz: Rate | None = None
    image_key: str = "observation.image"
    whole_chunks: bool = True
    zero_state: bool = False
    inputs: dict[str, Any] = field(default_factory=dict, hash=False)
    chunk: Annotated[int, Range(1, 10_000)] | None = None
