"""What a policy's YAML file says: where it comes from, and how it drives a robot."""

from dataclasses import dataclass, field
from typing import Any

from configs.driver import DriverConfig
from configs.remote import RemoteConfig
from configs.rules import Name, PathText
from configs.values import Settings


@dataclass(frozen=True)
class PolicyConfig(Settings):
    """One policy. `v2w rank 'policies=[zero, mine.yaml]'` takes such a file like any name.

    Attributes:
        source: A bundled name, a checkpoint (.safetensors), a recorded episode to replay (.npz), a
            server (ws://host:port), or the folder of a TensorFlow SavedModel.
        name: Label in tables and plots; null for the policy's own.
        instructions: Table of instruction embeddings (.safetensors) as `v2w embed` writes it; null
            for the one in the checkpoint. A SavedModel needs one.
        python: Python interpreter that has TensorFlow, for a SavedModel; null for the one that
            V2W_TF_PYTHON names, or this one.
        device: Where a checkpoint's network runs, such as cuda.
        inputs: What a policy in a server needs besides a frame and an instruction, as constants:
            name -> numbers, {zeros: [sizes]}, {image: [height, width]} or {image: file}.
        remote: See `RemoteConfig`.
        driver: See `DriverConfig`.
    """

    source: PathText
    name: Name | None = None
    instructions: PathText | None = None
    python: PathText | None = None
    device: str = "cpu"
    inputs: dict[str, Any] = field(default_factory=dict)
    remote: RemoteConfig = field(default_factory=RemoteConfig)
    driver: DriverConfig = field(default_factory=DriverConfig)
