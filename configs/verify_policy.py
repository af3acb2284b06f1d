"""Settings of `v2w verify-policy`."""

from dataclasses import dataclass
from typing import Annotated

from configs.rules import PathText, Range
from configs.values import Settings


@dataclass(frozen=True)
class VerifyPolicyConfig(Settings):
    """Which converted policy is held against which original, on which frames.

    Attributes:
        converted: Checkpoint (.safetensors) that `v2w convert-policy` wrote.
        saved_model: Folder of the SavedModel it was made from.
        frames: What both see: a recorded episode or any .npz with `frames` or `image`
            (T, H, W, 3), or a folder of images in the order of their names. Real frames of the
            robot: with noise a wrong conversion can pass.
        crop: What is cut off the frames first; see `DriverConfig.crop`.
        instruction: What both are told; null for the first one they know.
        instructions: Table of instruction embeddings (.safetensors) as `v2w embed` writes it; null
            for the one in the checkpoint.
        robot: Name of the `RobotSpec`.
        steps: Most frames that are shown.
        python: Python interpreter that has TensorFlow; null for the one that V2W_TF_PYTHON names,
            or this one.
        output: Where the result goes (.json).
    """

    converted: PathText
    saved_model: PathText
    frames: PathText
    crop: str = "none"
    instruction: str | None = None
    instructions: PathText | None = None
    robot: str = "google_robot"
    steps: Annotated[int, Range(8, 100_000)] = 32
    python: PathText | None = None
    output: PathText = "runs/verify_policy.json"
