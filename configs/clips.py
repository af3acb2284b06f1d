"""Settings of training clips: which frames they have, and how they change at random."""

from dataclasses import dataclass
from typing import Annotated

from v2w_gym.configs.rules import Range, Share
from v2w_gym.configs.values import Settings


@dataclass(frozen=True)
class AugmentationConfig(Settings):
    """Random changes of a training clip, the same for all of its frames.

    The defaults are Vid2World's. Zero switches a change off.

    Attributes:
        shift: Largest shift, in pixels; the edge is mirrored.
        brightness: Largest change of the brightness's factor, which is drawn around 1.
        contrast: Largest change of the contrast's factor.
        saturation: Largest change of the colours' factor.
        hue: Largest turn of the colour circle, as a share of the whole.
    """

    shift: Annotated[int, Range(0, 64)] = 2
    brightness: Share = 0.1
    contrast: Share = 0.1
    saturation: Share = 0.1
    hue: Annotated[float, Range(0, 0.5)] = 0.05
