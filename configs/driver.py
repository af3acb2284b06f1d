"""How a policy drives a robot: what is done to frames before it and to actions after it."""

from dataclasses import dataclass
from typing import Annotated

from configs.rules import Frames, Range
from configs.values import Settings


@dataclass(frozen=True)
class DriverConfig(Settings):
    """How frames are fitted to a policy and its actions to a robot.

    Attributes:
        crop: What is cut off a frame first: none; bars, which are the black columns that
            Vid2World's 320 x 512 frames have left and right; or keep_bars, which cuts nothing and
            shows the policy black bars that are refused otherwise.
        resize: How frames get the policy's size: bilinear (tf.image.resize, rounded),
            bilinear_trunc (the same, cut to integers as SimplerEnv does for RT-1), lanczos3
            (tf.image.resize with antialias, as Octo and OpenVLA are shown frames), or
            resize_with_pad (without distortion, with black margins, as policies of openpi are).
        stretch: Whether a frame of another aspect ratio may be stretched to the policy's size;
            refused unless asked for.
        any_rate: Whether a policy made for another number of actions per second than the robot's
            may drive it; refused unless asked for, as its steps then mean other speeds.
        scale: What the hand's displacement is multiplied by.
        sticky: Steps for which a change of an absolute gripper is sent on; SimplerEnv takes 15.
        gripper_deadband: A relative gripper value smaller than this is 0; SimplerEnv takes 0.01 for
            RT-1, whose nearest token to 0 means -0.0039.
        execution_horizon: Actions of a chunk that are carried out before the policy is asked again;
            0 for as many as its makers carry out, which is all of them unless the policy says so.
        ensemble: Ask in every step and average what all chunks say of it, the oldest weighing 1 and
            one that is i steps younger exp(-ensemble * i), as in ACT and Octo: 0 is their mean, a
            negative number favours the newest; null for what the policy's makers do, which is no
            averaging unless the policy says so, or if execution_horizon is set.
        terminate: What happens when the policy ends the episode: stop, or ignore.
    """

    crop: str = "none"
    resize: str = "bilinear"
    stretch: bool = False
    any_rate: bool = False
    scale: Annotated[float, Range(0, 1000)] = 1.0
    sticky: Frames = 1
    gripper_deadband: Annotated[float, Range(0, 1000)] = 0.0
    execution_horizon: Annotated[int, Range(0, 100_000)] = 0
    ensemble: Annotated[float, Range(-1e6, 1e6)] | None = None
    terminate: str = "stop"
