"""Encode every frame of prepared data once, with a world model's frozen encoder."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from v2w_gym.configs.clips import CacheConfig, ClipsConfig
from v2w_gym.configs.text import to_path
from v2w_gym.world_models.data.clips.batches import FrameReader, Places, load_batches
from v2w_gym.world_models.data.clips.latents import (
    CARD,
    FORMAT,
    LATENTS,
    TOKENS,
    CachedLatents,
    Encoder,
    LatentReader,
    Shard,
    bytes_of_frame,
    default_folder,
    identify_data,
    open_latents,
    shards_of,
)
from v2w_gym.world_models.data.clips.order import ClipPlace
from v2w_gym.world_models.data.prepared import PreparedData, open_prepared
from v2w_gym.world_models.files import replacing, write_text
from v2w_gym.world_models.loading import load_world_model
from v2w_gym.world_models.run_folder import RunFolder, hold_folder
from v2w_gym.world_models.vid2world.networks import Networks

log = logging.getLogger(__name__)


def cache_latents(cfg: CacheConfig) -> CachedLatents:
    """Encode the data that the settings choose; see `encode_data`.

    Raises:
        FileNotFoundError: No prepared data or no checkpoint.
        ValueError: A world model of another robot or without an encoder.
    """
    data = open_prepared(to_path(cfg.data))
    model = load_world_model(cfg.checkpoint, device=cfg.device)
    if not isinstance(model, Networks):
        raise ValueError(
            f"expected a Vid2World model, which has an encoder, found a {type(model).__name__}"
        )
    name = cfg.checkpoint or "bundled"
    folder = to_path(cfg.output) if cfg.output else None
    return encode_data(data, FrameEncoder(model, name, cfg.tokens), folder, cfg)


@dataclass(frozen=True)
class FrameEncoder:
    """The frozen part of a world model: from frames to latents, and to the image tower's tokens.

    Attributes:
        model: The world model.
        checkpoint: Name of its checkpoint.
        tokens: Whether tokens are wanted, too.
    """

    model: Networks
    checkpoint: str
    tokens: bool = False

    def __post_init__(self) -> None:
        """Check that there is an image tower if tokens are wanted.

        Raises:
            ValueError: There is none.
        """
        if self.tokens and self.model.context is None:
            raise ValueError(
                f"expected a model with an image tower for tokens=true, found none in "
                f"{self.checkpoint}"
            )

    @torch.inference_mode()
    def __call__(self, frames: NDArray[np.uint8]) -> dict[str, NDArray[np.float16]]:
        """Return latents (N, C, h, w) and perhaps tokens (N, L, D) of frames (N, H, W, 3).

        Latents are the mean where the autoencoder gives a distribution.

        Raises:
            FloatingPointError: A value that half precision cannot hold.
        """
        pictures = self.model.pictures(frames[:, None])[:, 0]
        found = {LATENTS: self.model.autoencoder.encode(pictures)}
        if self.tokens:
            assert self.model.context is not None
            found[TOKENS] = self.model.context.image_tokens(pictures)
        return {name: _halved(name, values) for name, values in found.items()}

    def identity(self) -> Encoder:
        """Return the digest of the weights and settings that the result depends on."""
        cfg, model = self.model.cfg, self.model
        digest = sha256(repr((cfg.kl_autoencoder or cfg.autoencoder, cfg.geometry)).encode())
        parts: list[nn.Module] = [model.autoencoder]
        if self.tokens:
            assert model.context is not None
            digest.update(repr(cfg.context).encode())
            parts.append(model.context.image_tower)
        for part in parts:
            for name, value in part.state_dict().items():
                digest.update(name.encode() + value.float().cpu().numpy().tobytes())
        return Encoder(self.checkpoint, digest.hexdigest()[:16])

    def shapes(self, data: PreparedData) -> dict[str, tuple[int, ...]]:
        """Return the shape of each kind of values for one frame."""
        one = np.zeros((1, *data.robot.frame_size, 3), np.uint8)
        return {name: values.shape[1:] for name, values in self(one).items()}


def encode_data(
    data: PreparedData, encoder: FrameEncoder, folder: Path | None, cfg: CacheConfig
) -> CachedLatents:
    """Write the latents of all frames to a folder, or continue at the shard that is not done.

    Args:
        data: The data.
        encoder: The encoder.
        folder: The folder; None for the one beside the data.
        cfg: Further settings.

    Raises:
        BlockingIOError: Another process works in the folder.
        FloatingPointError: A latent that half precision cannot hold.
        OSError: There is too little space.
        ValueError: Data of another robot, or a folder with latents of another encoder.
    """
    expected, found = encoder.model.robot.name, data.robot.name
    if expected != found:
        raise ValueError(
            f"expected data of robot {expected!r}, as {encoder.checkpoint} knows it, found data "
            f"of {found!r} in {data.folder}"
        )
    identity = encoder.identity()
    folder = folder or default_folder(data, identity)
    shapes = encoder.shapes(data)
    shards = shards_of(data.lengths, bytes_of_frame(shapes))
    card: dict[str, Any] = {
        "format": FORMAT,
        "encoder": asdict(identity),
        "data": identify_data(data),
        "shapes": shapes,
        "shards": [asdict(shard) for shard in shards],
    }
    with hold_folder(folder):
        run = RunFolder(folder, card, {"encoder.checkpoint"})
        missing = [shard for shard in shards if not shard.is_in(folder, shapes)]
        frames = sum(shard.frames for shard in missing)
        _check_space(folder, frames, shapes)
        run.begin()
        with tqdm(total=frames, unit="frame", desc="encoding") as bar:
            for shard in missing:
                _write_shard(folder, shard, _encoded(data, shard, encoder, cfg, bar), shapes)
        write_text(folder / CARD, json.dumps(card, indent=2) + "\n")
    return open_latents(data, identity, folder)


def make_reader(
    data: PreparedData, cfg: ClipsConfig, encoder: FrameEncoder
) -> FrameReader | LatentReader:
    """Return what reads the training clips of a model: frames on its canvas, or cached latents.

    Raises:
        FileNotFoundError: Latents are wanted, but not there.
        ValueError: They are those of another encoder or other data.
    """
    model = encoder.model.cfg
    if cfg.cached:
        cached = open_latents(data, encoder.identity())
        return LatentReader(cached, cfg.clip_frames, model.condition_frame)
    return FrameReader(
        data, cfg.clip_frames, model.condition_frame, model.geometry, cfg.augmentation
    )


@dataclass(frozen=True)
class _FramesOfEpisode:
    """Reads N consecutive frames of one episode, fewer at its end; see `Reader`."""

    data: PreparedData
    count: int
    dtype: torch.dtype = field(default=torch.uint8, init=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count, *self.data.robot.frame_size, 3)

    def read(self, places: Places, out: Tensor) -> int:
        (place,) = places
        stop = min(place.start + self.count, int(self.data.lengths[place.episode]))
        frames = out[0, : stop - place.start].numpy()
        return len(self.data.frames(place.episode, place.start, stop, frames))

    def to_batch(self, places: Places, clips: Tensor, rest: int) -> NDArray[np.uint8]:
        return clips[0, :rest].numpy()


def _encoded(
    data: PreparedData, shard: Shard, encoder: FrameEncoder, cfg: CacheConfig, bar: "tqdm[Any]"
) -> Iterator[dict[str, NDArray[np.float16]]]:
    """Yield what the encoder makes of the frames of a shard, a batch at a time."""
    wanted = (
        (ClipPlace(episode, start, ()),)
        for episode in shard.episodes
        for start in range(0, int(data.lengths[episode]), cfg.batch_size)
    )
    with load_batches(_FramesOfEpisode(data, cfg.batch_size), wanted, cfg.workers) as batches:
        for frames in batches:
            yield encoder(frames)
            bar.update(len(frames))


def _write_shard(
    folder: Path,
    shard: Shard,
    encoded: Iterator[Mapping[str, NDArray[np.float16]]],
    shapes: Mapping[str, tuple[int, ...]],
) -> None:
    values = {n: np.empty((shard.frames, *shape), np.float16) for n, shape in shapes.items()}
    done = 0
    for batch in encoded:
        for name, found in batch.items():
            values[name][done : done + len(found)] = found
        done += len(batch[LATENTS])
    assert done == shard.frames
    for name, array in values.items():
        with replacing(shard.file(folder, name)) as partial, partial.open("wb") as file:
            np.save(file, array)


def _check_space(folder: Path, frames: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Log how much space the missing frames take.

    Raises:
        OSError: There is less.
    """
    each = bytes_of_frame(shapes)
    free = shutil.disk_usage(folder).free
    size = f"{each:,} bytes a frame x {frames:,} frames = {each * frames / 1e9:,.2f} GB"
    log.info("%s in %s, where %.2f GB are free", size, folder, free / 1e9)
    if each * frames > free:
        raise OSError(
            f"expected {size} free in {folder}, found {free / 1e9:,.2f} GB; choose another "
            "output=..., or leave out tokens"
        )


def _halved(name: str, values: Tensor) -> NDArray[np.float16]:
    half = values.half()
    if not half.isfinite().all():
        raise FloatingPointError(
            f"expected {name} within half precision, found values up to "
            f"{values.abs().max().item():.3g}; the encoder does not fit these frames"
        )
    found: NDArray[np.float16] = half.cpu().numpy()
    return found
