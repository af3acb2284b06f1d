"""Batches of training clips, which other processes read ahead.

    order = TrainingOrder(data.lengths, cfg.clip_frames, cfg.seed)
    wanted = (order.batch(step, cfg.batch_size, rank, ranks) for step in steps)
    with load_batches(FrameReader(data, cfg.clip_frames), wanted, workers=4) as batches:
        for step, batch in zip(steps, batches):
            ...

A batch is a function of its places in the data alone, so neither the number of processes nor the
step at which a training resumes changes it.
"""

import signal
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from v2w_gym.configs.clips import AugmentationConfig
from v2w_gym.configs.model import GeometryConfig
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.world_models.data.clips.augmentation import augment, draw_augmentation
from v2w_gym.world_models.data.clips.order import ClipPlace
from v2w_gym.world_models.data.clips.shared_slots import SharedSlots
from v2w_gym.world_models.frames import place_on_canvas

Places: TypeAlias = Sequence[ClipPlace]
Batch_co = TypeVar("Batch_co", covariant=True)

AHEAD = 2
"""Batches that each process reads ahead."""
IN_USE = 2
"""Batches that a training holds at most: a step's, while it asks for the next one."""


class ClipData(Protocol):
    """Episodes of one robot, of which any clip can be read; see `PreparedData`.

    Attributes:
        robot: The robot.
        lengths: (E,) frames of each episode.
    """

    robot: RobotSpec
    lengths: NDArray[np.int64]

    def frames(
        self, episode: int, start: int, stop: int, out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Return frames (stop - start, H, W, 3) of an episode, written to `out` if it is given.

        Raises:
            ValueError: A frame is damaged.
        """
        ...

    def actions(self, episode: int, start: int, stop: int) -> NDArray[np.float32]:
        """Return the actions (stop - start - 1, A) between frames `start` to `stop`."""
        ...


class Reader(Protocol[Batch_co]):
    """Reads batches of clips of T frames, in whichever process it is.

    Attributes:
        shape: Shape of one clip in memory.
        dtype: Type of its values.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> torch.dtype: ...

    def read(self, places: Places, out: Tensor) -> Any:
        """Write the clips at some places to `out` (B, *shape), and return what else a batch needs.

        Raises:
            OSError: A file cannot be read.
            ValueError: The data are damaged.
        """
        ...

    def to_batch(self, places: Places, clips: Tensor, rest: Any) -> Batch_co:
        """Return the batch of what `read` has written and returned, in the training's process."""
        ...


@dataclass(frozen=True)
class ClipBatch:
    """B clips of T frames.

    Attributes:
        frames: (B, T, 3, H, W) uint8.
        condition: (B, 3, H, W) uint8, the conditioning frame.
        actions: (B, T, A); the action that led to each frame, NaN at an episode's first frame.
        places: The place of each clip.
    """

    frames: Tensor
    condition: Tensor
    actions: Tensor
    places: Places


@dataclass(frozen=True)
class FrameReader:
    """Reads batches of frames; see `Reader`.

    Attributes:
        data: The episodes.
        clip_frames: Frames of a clip (T).
        condition_frame: The conditioning frame: the `oldest` of the clip, or the `start` of its
            episode.
        geometry: Where to place frames on the model's canvas; None for frames as recorded.
        augmentation: Random changes of each clip, after it is placed; None for none.
    """

    data: ClipData
    clip_frames: int
    condition_frame: str = "oldest"
    geometry: GeometryConfig | None = None
    augmentation: AugmentationConfig | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        size = self.geometry.canvas if self.geometry else self.data.robot.frame_size
        return (self.clip_frames + (self.condition_frame == "start"), *size, 3)

    @property
    def dtype(self) -> torch.dtype:
        return torch.uint8

    def read(self, places: Places, out: Tensor) -> NDArray[np.float32]:
        recorded = np.empty((self.shape[0], *self.data.robot.frame_size, 3), np.uint8)
        for place, clip in zip(places, out.numpy(), strict=True):
            if self.geometry is None:
                self._read(place, clip)
            else:
                self._read(place, recorded)
                place_on_canvas(recorded, self.geometry, clip)
            if self.augmentation is not None:
                clip[:] = augment(clip, draw_augmentation(self.augmentation, place.rng()))
        return clip_actions(self.data, places, self.clip_frames)

    def to_batch(self, places: Places, clips: Tensor, rest: NDArray[np.float32]) -> ClipBatch:
        frames = clips.movedim(-1, -3)  # (B, T or T + 1, 3, H, W)
        actions = torch.from_numpy(rest)
        return ClipBatch(frames[:, -self.clip_frames :], frames[:, 0], actions, places)

    def _read(self, place: ClipPlace, out: NDArray[np.uint8]) -> None:
        if self.condition_frame == "start":
            self.data.frames(place.episode, 0, 1, out[:1])
        stop = place.start + self.clip_frames
        self.data.frames(place.episode, place.start, stop, out[-self.clip_frames :])


def clip_actions(data: ClipData, places: Places, clip_frames: int) -> NDArray[np.float32]:
    """Return the actions (B, T, A) that led to each frame of some clips; NaN where none did."""
    shape = len(places), clip_frames, data.robot.action_size
    actions = np.full(shape, np.nan, np.float32)
    for place, led in zip(places, actions, strict=True):
        before = max(place.start - 1, 0)  # the action between this frame and the clip's first
        found = data.actions(place.episode, before, place.start + clip_frames)
        led[clip_frames - len(found) :] = found
    return actions


@contextmanager
def load_batches(
    reader: Reader[Batch_co],
    wanted: Iterable[Places],
    workers: int = 0,
    *,
    pin_memory: bool = False,
) -> Iterator[Iterator[Batch_co]]:
    """Yield an iterator over batches, which other processes read ahead until the block ends.

    Args:
        reader: Reads them.
        wanted: The places of each batch.
        workers: Number of processes; 0 reads in this one.
        pin_memory: Whether to copy each batch to page-locked memory, from which a GPU can fetch it
            while the CPU goes on.

    Raises:
        ChildProcessError: A process that reads was killed.
        OSError: There is too little shared memory, or a file cannot be read.
        ValueError: The data are damaged.
    """
    wanted = iter(wanted)
    first = next(wanted, ())
    slots = SharedSlots(workers * AHEAD + IN_USE, (len(first), *reader.shape), reader.dtype)
    loader: DataLoader[_Found] = DataLoader(
        _Requested(reader, slots.tensors),
        batch_size=None,
        sampler=_requests(chain([first], wanted) if first else (), slots, max(workers, 1)),
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=_ignore_interrupt,
        prefetch_factor=AHEAD if workers else None,
        generator=torch.Generator(),  # the default would draw from the global random state
    )
    found = iter(loader)
    try:
        yield _to_batches(reader, found, slots, pin_memory)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise ChildProcessError(
            f"expected {workers} processes to read clips, found that one was killed "
            f"({str(error).rstrip('.')}); if memory ran out, lower workers or batch_size"
        ) from error
    finally:
        if workers:  # or the processes would live on as long as the traceback of an error
            cast(Any, found)._shutdown_workers()


@dataclass(frozen=True)
class _Request:
    """A batch to read.

    Attributes:
        places: The places of its clips.
        slot: Number of the slot to write it to; None for new memory.
    """

    places: Places
    slot: int | None


@dataclass(frozen=True)
class _Found:
    """A batch that was read.

    Attributes:
        request: The request.
        rest: What else the batch needs, or the error that the data caused.
        memory: The clips, if they are in new memory.
    """

    request: _Request
    rest: Any
    memory: Tensor | None = None


class _Requested(Dataset[_Found]):
    """Batches by their requests, as a `DataLoader` wants them."""

    def __init__(self, reader: Reader[Any], slots: Sequence[Tensor]) -> None:
        self._reader, self._slots = reader, slots

    def __getitem__(self, request: _Request) -> _Found:
        count = len(request.places)
        memory = None
        if request.slot is None:
            memory = torch.empty((count, *self._reader.shape), dtype=self._reader.dtype)
        out = self._slots[request.slot][:count] if request.slot is not None else memory
        assert out is not None
        try:
            return _Found(request, self._reader.read(request.places, out), memory)
        except (OSError, ValueError) as error:  # without the traceback that DataLoader would add
            return _Found(request, error)


def _requests(wanted: Iterable[Places], slots: SharedSlots, processes: int) -> Iterator[_Request]:
    for turn, places in enumerate(wanted):
        fits = len(places) <= len(slots.tensors[0])
        # a `DataLoader` gives requests to its processes in turn
        slot = slots.take(turn % processes, processes) if fits else None
        yield _Request(places, slot)


def _to_batches(
    reader: Reader[Batch_co], batches: Iterable[_Found], slots: SharedSlots, pin_memory: bool
) -> Iterator[Batch_co]:
    for found in batches:
        if isinstance(found.rest, Exception):
            raise found.rest
        places, slot = found.request.places, found.request.slot
        clips = found.memory if slot is None else slots.lend(slot)[: len(places)]
        assert clips is not None
        if pin_memory:
            clips = clips.pin_memory()
        yield reader.to_batch(places, clips, found.rest)
        del clips  # so that the slot is free as soon as the training lets go of the batch


def _unchanged(found: Any) -> Any:
    return found


def _ignore_interrupt(worker: int) -> None:
    """Leave Ctrl-C, which reaches all processes of a terminal, to the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
