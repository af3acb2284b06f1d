"""Batches of training clips, which other processes read ahead.

    order = TrainingOrder(data.lengths, cfg.clip_frames, cfg.seed)
    wanted = (order.batch(step, cfg.batch_size) for step in steps)
    with load_batches(FrameReader(data, cfg.clip_frames), wanted, workers=4) as batches:
        for step, batch in zip(steps, batches):
            ...

A batch is a function of its places in the data alone, so neither the number of processes nor the
step at which a training resumes changes it.
"""

import signal
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from v2w_gym.configs.clips import AugmentationConfig
from v2w_gym.configs.model import GeometryConfig
from v2w_gym.world_models.data.augmentation import augment, draw_augmentation
from v2w_gym.world_models.data.clip_order import ClipPlace
from v2w_gym.world_models.frames import place_on_canvas

Batch = TypeVar("Batch")
AHEAD = 2
"""Batches that each process reads ahead."""


class ClipData(Protocol):
    """Episodes of one robot, of which any clip can be read; see `PreparedData`.

    Attributes:
        lengths: (E,) frames of each episode.
    """

    lengths: NDArray[np.int64]

    def frames(self, episode: int, start: int, stop: int) -> NDArray[np.uint8]:
        """Return frames (stop - start, H, W, 3) of an episode.

        Raises:
            ValueError: A frame is damaged.
        """

    def actions(self, episode: int, start: int, stop: int) -> NDArray[np.float32]:
        """Return the actions (stop - start, A) that are taken at frames `start` to `stop`."""


@dataclass(frozen=True)
class ClipBatch:
    """B clips of T frames.

    Attributes:
        frames: (B, T, 3, H, W) uint8.
        actions: (B, T, A); the action that led to each frame, NaN at an episode's first frame.
        episodes: (B,) index of each clip's episode.
        starts: (B,) index of its first frame in the episode.
    """

    frames: Tensor
    actions: Tensor
    episodes: Tensor
    starts: Tensor

    def pin_memory(self) -> "ClipBatch":
        """Return a copy that a GPU can fetch while the CPU goes on; a `DataLoader` calls this."""
        return replace(self, frames=self.frames.pin_memory(), actions=self.actions.pin_memory())


@dataclass(frozen=True)
class FrameReader:
    """Reads batches of frames.

    Attributes:
        data: The episodes.
        clip_frames: Frames of a clip (T).
        geometry: Where to place frames on the model's canvas; None for frames as recorded.
        augmentation: Random changes of each clip, after it is placed; None for none.
    """

    data: ClipData
    clip_frames: int
    geometry: GeometryConfig | None = None
    augmentation: AugmentationConfig | None = None

    def __call__(self, places: Sequence[ClipPlace]) -> ClipBatch:
        """Return the clips at some places.

        Raises:
            ValueError: A frame is damaged.
        """
        clips = map(self._frames, places)
        return ClipBatch(
            stacked(clips, len(places)).movedim(-1, -3),  # (B, T, H, W, 3) -> (B, T, 3, H, W)
            clip_actions(self.data, places, self.clip_frames),
            *episodes_and_starts(places),
        )

    def _frames(self, place: ClipPlace) -> NDArray[np.uint8]:
        stop = place.start + self.clip_frames
        frames = self.data.frames(place.episode, place.start, stop)
        if self.geometry is not None:
            frames = place_on_canvas(frames, self.geometry)
        if self.augmentation is None:
            return frames
        return augment(frames, draw_augmentation(self.augmentation, place.rng()))


def stacked(arrays: Iterator[NDArray[Any]], count: int) -> Tensor:
    """Stack `count` arrays of one shape.

    A process that reads ahead stacks them in shared memory, from which the main process takes them
    without a copy.
    """
    first = torch.from_numpy(next(arrays))
    out = torch.empty((count, *first.shape), dtype=first.dtype)
    if get_worker_info() is not None:
        out.share_memory_()
    out[0] = first
    for row, array in enumerate(arrays, 1):
        out[row] = torch.from_numpy(array)
    return out


def clip_actions(data: ClipData, places: Sequence[ClipPlace], clip_frames: int) -> Tensor:
    """Return the actions (B, T, A) that led to each frame of some clips; NaN where none did."""
    rows = []
    for place in places:
        first = max(place.start - 1, 0)
        led = data.actions(place.episode, first, place.start + clip_frames - 1)
        none = np.full((clip_frames - len(led), led.shape[1]), np.nan, np.float32)
        rows.append(np.concatenate([none, led]))
    return torch.from_numpy(np.stack(rows))


def episodes_and_starts(places: Sequence[ClipPlace]) -> tuple[Tensor, Tensor]:
    """Return the episode and the first frame of each place, (B,) each."""
    episodes, starts = zip(*((place.episode, place.start) for place in places), strict=True)
    return torch.tensor(episodes), torch.tensor(starts)


@contextmanager
def load_batches(
    read: Callable[[Sequence[ClipPlace]], Batch],
    wanted: Iterable[Sequence[ClipPlace]],
    workers: int = 0,
    *,
    pin_memory: bool = False,
) -> Iterator[Iterator[Batch]]:
    """Yield the batches of `read`, in order, which other processes read ahead until the block ends.

    Args:
        read: Returns the clips at some places; it travels to the other processes.
        wanted: The places of each batch.
        workers: Number of processes; 0 reads in this one.
        pin_memory: Whether to copy batches to page-locked memory, from which a GPU can fetch them
            while the CPU goes on.

    Raises:
        ChildProcessError: A process that reads was killed.
        OSError: As in `read`.
        ValueError: As in `read`.
    """
    loader = DataLoader(
        _Batches(read),
        batch_size=None,
        sampler=wanted,
        num_workers=workers,
        collate_fn=_unchanged,
        worker_init_fn=_ignore_interrupt,
        prefetch_factor=AHEAD if workers else None,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # the default one would draw from the global random state
    )
    batches = _results(loader)
    try:
        yield batches
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise ChildProcessError(
            f"expected {workers} processes to read clips, found that one was killed "
            f"({str(error).rstrip('.')}); if memory ran out, lower workers or batch_size"
        ) from error
    finally:
        batches.close()


@dataclass(frozen=True)
class _Failed:
    """An error that data can cause; the main process raises it, without the traceback here."""

    error: Exception


class _Batches(Dataset[Any]):
    """Batches by the places of their clips."""

    def __init__(self, read: Callable[[Sequence[ClipPlace]], Any]) -> None:
        self._read = read

    def __getitem__(self, places: Sequence[ClipPlace]) -> Any:
        try:
            return self._read(places)
        except (OSError, ValueError) as error:
            return _Failed(error)


def _results(loader: DataLoader[Any]) -> Generator[Any, None, None]:
    for batch in loader:
        if isinstance(batch, _Failed):
            raise batch.error
        yield batch


def _unchanged(batch: Batch) -> Batch:
    return batch


def _ignore_interrupt(worker: int) -> None:
    """Leave Ctrl-C, which reaches all processes of a terminal, to the main process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
