"""Settings of `v2w prepare`, `v2w starts` and `v2w show`."""

from dataclasses import dataclass, field

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
        ids: Names of the episodes to read, or JSON files that list them; empty for all.
        excluded: Names of the episodes to leave out, or JSON files that list them.
    """

    source: PathText
    format: str = ""
    fields: str = ""
    camera: str = ""
    ids: list[str] = field(default_factory=list)
    excluded: list[str] = field(default_factory=list)
