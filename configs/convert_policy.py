"""Settings of `v2w convert-policy`."""

from dataclasses import dataclass

from configs.rules import PathText
from configs.values import Settings


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
