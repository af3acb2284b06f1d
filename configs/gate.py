"""Settings of `v2w gate`."""

from dataclasses import dataclass, field
from typing import Annotated

from configs.rules import Amount, BatchSize, PathText, Range, Share, some
from configs.values import Settings


@dataclass(frozen=True)
class GateConfig(Settings):
    """What a world model must show before it is bundled.

    Attributes:
        output: Folder for `gate.json`, `gate.md` and the strips.
        checkpoint: World model (.safetensors); None is the bundled one.
        judge: Success judge (.safetensors); None is the bundled one.
        episodes: Folders with held-out episodes.
        limit: Episodes per task, the first by seed.
        batch_size: Rollouts that run together; changes speed and rounding in the frames.
        run: Finished `v2w rank` folder of the same world model, for the closed-loop checks.
        trials: Table of trials on the (stand-in) robot; None is the bundled one.
        agreement: Smallest share of episodes whose success is judged as it really was.
        correlation: Smallest correlation of the drawer's displacement with the real one.
        null_rate: Largest simulated success rate of the policy that does nothing.
    """

    output: PathText = "runs/gate"
    checkpoint: PathText | None = None
    judge: PathText | None = None
    episodes: Annotated[list[PathText], some] = field(
        default_factory=lambda: ["data/standin/held_out"]
    )
    limit: Amount = 100
    batch_size: BatchSize = 25
    run: PathText | None = None
    trials: PathText | None = None
    agreement: Share = 0.85
    correlation: Annotated[float, Range(-1, 1)] = 0.80
    null_rate: Share = 0.05
