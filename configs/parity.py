"""Settings of `v2w parity`."""

from dataclasses import dataclass

from omegaconf import MISSING


@dataclass(frozen=True)
class ParityConfig:
    """Which golden cases this implementation is held against.

    Attributes:
        folder: Folder of cases, each a `<case>.json` and a `<case>.safetensors`.
        threads: CPU threads.
    """

    folder: str = MISSING
    threads: int = 1
