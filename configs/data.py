"""Settings of `v2w prepare`, `v2w starts` and `v2w show`."""

from dataclasses import dataclass

from v2w_gym.configs.rules import PathText
from v2w_gym.configs.values import Settings


@dataclass(frozen=True)
class SourceSettings(Settings):
    """The choice of recorded data.

    Attributes:
        source: File or folder; the name of a split may follow a colon: "FOLDER:train[:1000]".
        format: Format of the data; "" for the one that recognises the path.
        fields: Name of a known data set, or a YAML file with the names of its fields; "" for what
            is known of the data set. See `v2w_gym.configs.sources.SourceFields`.
        camera: Name of the camera; "" for the default one.
    """

    source: PathText
    format: str = ""
    fields: str = ""
    camera: str = ""
