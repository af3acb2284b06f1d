"""Settings of `v2w parity`."""

from dataclasses import dataclass

from configs.rules import PathText, Threads
from configs.values import Settings


@dataclass(frozen=True)
class ParityConfig(Settings):
    """Which golden cases this implementation is held against.

    Attributes:
        folder: Folder of cases, each a `<case>.json` and a `<case>.safetensors`.
        threads: CPU threads.
    """

    folder: PathText
    threads: Threads = 1
