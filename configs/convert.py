"""Settings of `v2w convert-policy`, `v2w verify-policy` and `v2w embed`."""

from dataclasses import dataclass, field
from typing import Annotated

from v2w_gym.configs.rules import Factor, PathText, Range, Steps
from v2w_gym.configs.values import Settings


@dataclass(frozen=True)
class ConvertPolicyConfig(Settings):
    """Conversion of an RT-1 policy's SavedModel to a checkpoint of this project's format.

    Attributes:
        source: Folder of the SavedModel (saved_model.pb and variables/), or its folder variables.
        output: File to write (.safetensors), with a card beside it.
        instructions: Table of instruction embeddings (.safetensors) as `v2w embed` writes it, kept
            in the checkpoint. Null stores none; the policy then needs one to run.
        robot: Robot that the policy acts on; its bounds must be those in policy_specs.pbtxt.
    """

    source: PathText
    output: PathText
    instructions: PathText | None = None
    robot: str = "google_robot"


@dataclass(frozen=True)
class VerifyPolicyConfig(Settings):
    """Comparison of a converted policy with its original, frame by frame.

    Attributes:
        converted: Checkpoint (.safetensors) that `v2w convert-policy` wrote.
        saved_model: Folder of the SavedModel that it was converted from.
        frames: Input of both policies: any recorded data, such as an episode or a folder of images,
            or an .npz file with `frames` or `image` (T, H, W, 3). Use real frames of the
            robot, since a wrong conversion can pass on noise.
        crop: How the frames are cropped first; see `ProcessingConfig.crop`.
        instruction: Instruction of both policies; null for the first one they know.
        instructions: Table of instruction embeddings (.safetensors) as `v2w embed` writes it; null
            for the one in the checkpoint.
        robot: Name of the `RobotSpec`.
        steps: Most frames to compare.
        python: Python interpreter that has TensorFlow; null for the one in V2W_TF_PYTHON, or this
            one.
        output: File to write the result to (.json).
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


@dataclass(frozen=True)
class EmbedConfig(Settings):
    """A table of instruction embeddings, from recordings or an older table, plus new texts.

    Attributes:
        source: An RLDS folder (a TFDS builder folder) whose steps carry instructions and their
            embeddings, or an older table (.safetensors). A split may follow a colon.
        output: File to write the table to (.safetensors), with a card beside it.
        text_feature: Feature of a step that holds the instruction.
        vector_feature: Feature of a step that holds the embedding.
        tolerance: Largest difference between values of one instruction's embeddings.
        save_every: Episodes between saves of the unfinished table.
        texts: More instructions, to encode with `encoder`.
        encoder: Encoder of `texts`: "onnx:" and the path of a model.
        min_cosine: Least cosine similarity between the encoder's vectors and those of the source;
            below it the command fails.
    """

    source: PathText
    output: PathText
    text_feature: str = "observation/natural_language_instruction"
    vector_feature: str = "observation/natural_language_embedding"
    tolerance: Factor = 1e-5
    save_every: Steps = 1000
    texts: list[str] = field(default_factory=list)
    encoder: str = ""
    min_cosine: Annotated[float, Range(-1, 1)] = 0.999
