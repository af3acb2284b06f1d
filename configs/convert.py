"""Settings of `v2w convert-policy`, `v2w verify-policy` and `v2w embed`."""

from dataclasses import dataclass, field
from typing import Annotated

from v2w_gym.configs.rules import Factor, PathText, Range, Steps
from v2w_gym.configs.values import Settings


@dataclass(frozen=True)
class ConvertPolicyConfig(Settings):
    """How the SavedModel of an RT-1 policy becomes a checkpoint of this project's format.

    Attributes:
        source: Folder of the SavedModel (saved_model.pb and variables/), or its folder variables.
        output: File to write (.safetensors); the card lies beside it.
        instructions: Table of instruction embeddings (.safetensors) as `v2w embed` writes it, kept
            in the checkpoint; null for none, and then the policy must be given one to run.
        robot: Whose actions the policy gives; its bounds must be those in policy_specs.pbtxt.
    """

    source: PathText
    output: PathText
    instructions: PathText | None = None
    robot: str = "google_robot"


@dataclass(frozen=True)
class VerifyPolicyConfig(Settings):
    """Which converted policy is compared with which original, on which frames.

    Attributes:
        converted: Checkpoint (.safetensors) that `v2w convert-policy` wrote.
        saved_model: Folder of the SavedModel it was made from.
        frames: What both see: a recorded episode or any .npz with `frames` or `image`
            (T, H, W, 3), or a folder of images in the order of their names. Real frames of the
            robot: with noise a wrong conversion can pass.
        crop: What is cut off the frames first; see `ProcessingConfig.crop`.
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


@dataclass(frozen=True)
class EmbedConfig(Settings):
    """A table of instructions and their embeddings: from recordings, or an older table, plus texts.

    Attributes:
        source: An RLDS folder (a TFDS builder folder) whose steps carry instructions and their
            embeddings, or a table (.safetensors) made before.
        output: Where the table is written (.safetensors); its card lies beside it.
        split: Which part of an RLDS folder is read, such as train or train[:12shard].
        text_feature: The steps' instruction.
        vector_feature: The steps' embedding.
        tolerance: How far apart the values of one instruction's embeddings may be.
        save_every: Episodes between saves of the unfinished harvest.
        texts: More instructions, which `encoder` encodes.
        encoder: What encodes `texts`: "onnx:" and the path of a model.
        min_cosine: Least cosine between the encoder's vectors and those of the source; the
            encoder is refused below it.
    """

    source: PathText
    output: PathText
    split: str = "train"
    text_feature: str = "observation/natural_language_instruction"
    vector_feature: str = "observation/natural_language_embedding"
    tolerance: Factor = 1e-5
    save_every: Steps = 1000
    texts: list[str] = field(default_factory=list)
    encoder: str = ""
    min_cosine: Annotated[float, Range(-1, 1)] = 0.999
