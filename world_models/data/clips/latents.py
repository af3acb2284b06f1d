"""Cached latents: what a frozen encoder makes of every frame of prepared data.

A folder beside the data holds shards of consecutive episodes, and `latents.json`, which names the
encoder and the data:

    latents-00000.npy   (N, C, h, w) float16
    tokens-00000.npy    (N, L, D) float16, the image tower's tokens, if they were wanted
    latents.json        encoder, data, shapes, shards

Files are mapped into memory, so a clip is read without the frames around it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from v2w_gym.world_models.data.clips.batches import Places, clip_actions
from v2w_gym.world_models.data.decoding.arrays import DAMAGED, array_header
from v2w_gym.world_models.data.prepared import PreparedData
from v2w_gym.world_models.weight_files import read_json

FOLDER, CARD = "latents", "latents.json"
LATENTS, TOKENS = "latents", "tokens"
FORMAT = "v2w-latents-1"
SHARD_BYTES = 2**28
"""Bytes at which the next shard begins: 256 MiB."""


@dataclass(frozen=True)
class Encoder:
    """What identifies an encoder.

    Attributes:
        checkpoint: Name of its checkpoint, for messages.
        digest: Digest of its weights and settings.
    """

    checkpoint: str
    digest: str

    def __str__(self) -> str:
        """Return name and digest, for messages."""
        return f"{self.checkpoint} ({self.digest})"


@dataclass(frozen=True)
class Shard:
    """The latents of some consecutive episodes.

    Attributes:
        number: Number of the shard.
        first: Number of its first episode.
        end: Number after its last one.
        frames: Number of their frames.
    """

    number: int
    first: int
    end: int
    frames: int

    @property
    def episodes(self) -> range:
        """The numbers of its episodes."""
        return range(self.first, self.end)

    def file(self, folder: Path, name: str) -> Path:
        """Return the path of its values of one kind."""
        return folder / f"{name}-{self.number:05d}.npy"

    def is_in(self, folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Whether its files are in a folder, and whole."""
        return all(
            _is_array(self.file(folder, name), (self.frames, *shape))
            for name, shape in shapes.items()
        )


class CachedLatents:
    """Random access to the latents of prepared data.

    Attributes:
        folder: The folder.
        data: The data.
        shapes: Name of each kind of values, `LATENTS` and perhaps `TOKENS` -> shape for one frame.
        shards: The shards, in order.
    """

    def __init__(self, folder: Path, data: PreparedData, card: Mapping[str, Any]) -> None:
        """Keep the places of the episodes; see `open_latents`."""
        self.folder, self.data = folder, data
        self.shapes = {name: tuple(shape) for name, shape in card["shapes"].items()}
        self.shards = [Shard(**shard) for shard in card["shards"]]
        self._firsts = np.array([shard.first for shard in self.shards])
        self._offsets = np.concatenate([[0], np.cumsum(data.lengths)])

    def read(self, name: str, episode: int, start: int, stop: int) -> NDArray[np.float16]:
        """Return the values (stop - start, ...) of some frames of an episode.

        Raises:
            OSError: A shard cannot be read.
        """
        shard = self.shards[int(np.searchsorted(self._firsts, episode, side="right")) - 1]
        before = int(self._offsets[episode] - self._offsets[shard.first])
        return _mapped(shard.file(self.folder, name))[before + start : before + stop]


@dataclass(frozen=True)
class LatentBatch:
    """B clips of T latents.

    Attributes:
        latents: (B, T, C, h, w) float16.
        condition: (B, C, h, w) float16, the latent of the conditioning frame.
        tokens: (B, L, D) float16, its tokens of the image tower; None if there are none.
        actions: (B, T, A); the action that led to each frame, NaN at an episode's first frame.
        places: The place of each clip.
    """

    latents: Tensor
    condition: Tensor
    tokens: Tensor | None
    actions: Tensor
    places: Places


@dataclass(frozen=True)
class LatentReader:
    """Reads batches of cached latents in place of frames; see `Reader`.

    Latents cannot be augmented: a change of the frames changes them.

    Attributes:
        cached: The latents.
        clip_frames: Frames of a clip (T).
        condition_frame: See `FrameReader`.
    """

    cached: CachedLatents
    clip_frames: int
    condition_frame: str = "oldest"
    dtype: torch.dtype = field(default=torch.float16, init=False)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.clip_frames + (self.condition_frame == "start"), *self.cached.shapes[LATENTS])

    def read(
        self, places: Places, out: Tensor
    ) -> tuple[NDArray[np.float32], NDArray[np.float16] | None]:
        tokens = []
        for place, clip in zip(places, out.numpy(), strict=True):
            stop = place.start + self.clip_frames
            read = self.cached.read
            clip[-self.clip_frames :] = read(LATENTS, place.episode, place.start, stop)
            known = 0 if self.condition_frame == "start" else place.start
            clip[0] = read(LATENTS, place.episode, known, known + 1)[0]
            if TOKENS in self.cached.shapes:
                tokens.append(read(TOKENS, place.episode, known, known + 1)[0])
        actions = clip_actions(self.cached.data, places, self.clip_frames)
        return actions, np.stack(tokens) if tokens else None

    def to_batch(self, places: Places, clips: Tensor, rest: Any) -> LatentBatch:
        actions, tokens = rest
        return LatentBatch(
            clips[:, -self.clip_frames :],
            clips[:, 0],
            None if tokens is None else torch.from_numpy(tokens),
            torch.from_numpy(actions),
            places,
        )


def open_latents(data: PreparedData, encoder: Encoder, folder: Path | None = None) -> CachedLatents:
    """Open the cached latents of prepared data.

    Args:
        data: The data.
        encoder: The encoder that should have made them.
        folder: The folder; None for the one beside the data.

    Raises:
        FileNotFoundError: No latents there, or unfinished ones.
        ValueError: Latents of another encoder or other data, or a damaged folder.
    """
    folder = folder or default_folder(data, encoder)
    card = read_json(folder / CARD)
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        raise FileNotFoundError(
            f"expected latents of encoder {encoder} in {folder}, found {_others(folder, data)}; "
            f"run: v2w cache {data.folder} checkpoint={encoder.checkpoint}"
        )
    found = Encoder(**card["encoder"])
    if found.digest != encoder.digest:
        raise ValueError(
            f"expected latents of encoder {encoder} in {folder}, found those of {found}; run: "
            f"v2w cache {data.folder} checkpoint={encoder.checkpoint}"
        )
    if card["data"] != identify_data(data):
        raise ValueError(
            f"expected latents of the data in {data.folder} ({identify_data(data)}), found those "
            f"of other data ({card['data']}) in {folder}; delete them and run v2w cache again"
        )
    cached = CachedLatents(folder, data, card)
    for shard in cached.shards:
        if not shard.is_in(folder, cached.shapes):
            raise ValueError(
                f"expected whole float16 arrays of {shard.frames} frames in shard {shard.number} "
                f"of {folder}, found none; run v2w cache again"
            )
    return cached


def default_folder(data: PreparedData, encoder: Encoder) -> Path:
    """Return the folder of an encoder's latents, beside the data."""
    return data.folder / FOLDER / encoder.digest


def identify_data(data: PreparedData) -> str:
    """Return a digest of prepared data: of the checksums of its files."""
    files = json.dumps(data.card["files"], sort_keys=True)
    return sha256(files.encode()).hexdigest()[:16]


def bytes_of_frame(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """Return the bytes of one frame's values of all kinds."""
    return np.dtype(np.float16).itemsize * sum(math.prod(shape) for shape in shapes.values())


def shards_of(lengths: NDArray[np.int64], frame_bytes: int) -> list[Shard]:
    """Return the shards of episodes; each holds whole ones.

    Args:
        lengths: (E,) frames of each episode.
        frame_bytes: Bytes of one frame.
    """
    shards: list[Shard] = []
    first = frames = 0
    for episode, length in enumerate(lengths.tolist()):
        if frames and (frames + length) * frame_bytes > SHARD_BYTES:
            shards.append(Shard(len(shards), first, episode, frames))
            first, frames = episode, 0
        frames += length
    return [*shards, Shard(len(shards), first, len(lengths), frames)]


def _is_array(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether a file holds a whole float16 array of a shape."""
    try:
        header = array_header(path)
    except DAMAGED:
        return False
    return header.shape == shape and header.dtype == np.float16


def _others(folder: Path, data: PreparedData) -> str:
    """Return the encoders whose latents lie beside the data, for a message."""
    cards = [read_json(path) for path in sorted((data.folder / FOLDER).glob(f"*/{CARD}"))]
    there = [str(Encoder(**card["encoder"])) for card in cards if isinstance(card, dict)]
    unfinished = " but unfinished ones" if folder.is_dir() else ""
    return f"none{unfinished}, and those of {', '.join(there)}" if there else f"none{unfinished}"


@lru_cache(maxsize=64)
def _mapped(path: Path) -> NDArray[np.float16]:
    mapped: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return mapped
