"""Settings of training clips from prepared data, and of `v2w cache`."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from v2w_gym.configs.rules import BatchSize, PathText, Range, Share, Window
from v2w_gym.configs.values import Settings

Workers: TypeAlias = Annotated[int, Range(0, 1024)]


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

    shift: Annotated[int, Range(0, 32)] = 2
    brightness: Share = 0.1
    contrast: Share = 0.1
    saturation: Share = 0.1
    hue: Annotated[float, Range(0, 0.5)] = 0.05


@dataclass(frozen=True)
class ClipsConfig(Settings):
    """Training clips from prepared data.

    Attributes:
        data: Folder that `v2w prepare` wrote.
        clip_frames: Frames of a clip (T).
        augmentation: Random changes of each clip; null for none.
        cached: Whether to read the latents that `v2w cache` wrote, in place of frames.
        workers: Processes that read ahead; 0 reads in this one. The clips are the same.
    """

    data: PathText
    clip_frames: Window = 16
    augmentation: AugmentationConfig | None = None
    cached: bool = False
    workers: Workers = 4

    def __post_init__(self) -> None:
        """Convert and check the values.

        Raises:
            ValueError: As for `Settings`, or augmentation of cached latents.
        """
        super().__post_init__()
        if self.cached and self.augmentation is not None:
            raise ValueError(
                "expected augmentation=null with cached=true, since cached latents are those of "
                "unchanged frames, found both; set cached=false"
            )


@dataclass(frozen=True)
class CacheConfig(Settings):
    """Latents of every frame of prepared data, which a training reads in place of frames.

    Attributes:
        data: Folder that `v2w prepare` wrote.
        checkpoint: World model with the encoder: a file, a folder with one, or a hub id
            owner/name; null is the bundled one.
        output: Folder to write; null for one beside the data. The same command resumes there.
        tokens: Whether to store the image tower's tokens, too, which take far more space.
        device: Device of the encoder, such as cuda.
        batch_size: Most frames to encode at once.
        workers: Processes that decode frames ahead; 0 decodes in this one.
    """

    data: PathText
    checkpoint: PathText | None = None
    output: PathText | None = None
    tokens: bool = False
    device: str = "cpu"
    batch_size: BatchSize = 32
    workers: Workers = 2
