"""One episode, checked and ready to be written: its pictures encoded, its actions executed."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.action_layouts import OPENING
from v2w_gym.configs.data import PrepareConfig
from v2w_gym.configs.robots import RobotSpec
from v2w_gym.configs.text import printable
from v2w_gym.world_models.data.decoding.encoded import decode_picture
from v2w_gym.world_models.data.episode import EncodedFrames, Episode, Frames
from v2w_gym.world_models.data.fit import FittedEpisode, UnfitEpisodeError, fit_episode
from v2w_gym.world_models.data.preparing.report import LeftOut, Moments, Report, moments_of

BLOCK_BYTES = 32 * 2**20
"""Bytes of decoded frames of the robot's size to hold at a time."""
EVERY = 8
"""Distance of the pixels whose moments are kept."""
LONG = 5
"""Fewest frames in a row that repeat the one before and count as stuck."""
MOVING = 0.002
"""Least distance of an action from rest, in widths of its bounds, that counts as motion."""
DAMAGED = "damaged"
"""Kind of the episodes that cannot be read whole."""
COPIED = ("JPEG", "PNG")
PNG_LEVEL = 1
"""Compression of PNG: five times as fast as the default, for files that are 15 % larger."""


@dataclass(frozen=True)
class ReadyEpisode:
    """An episode to write.

    Attributes:
        number: Its number in the source.
        id: Its name.
        pictures: Its T frames as JPEG or PNG files.
        actions: (T, A) float32; the last one is at rest.
        instruction: Instruction that was given; None for none.
        camera: Name of the camera.
        task: Name of the task; None for none.
        success: (T,) bool; None if that is not recorded.
        report: What was corrected.
    """

    number: int
    id: str
    pictures: list[bytes]
    actions: NDArray[np.float32]
    instruction: str | None
    camera: str
    task: str | None
    success: NDArray[np.bool_] | None
    report: Report

    def __len__(self) -> int:
        """Return the number of frames (T)."""
        return len(self.pictures)

    @property
    def nbytes(self) -> int:
        """Bytes of the pictures."""
        return sum(map(len, self.pictures))


def ready_episode(
    episode: Episode, number: int, robot: RobotSpec, cfg: PrepareConfig
) -> ReadyEpisode | LeftOut:
    """Return an episode as it is written, or the reason to leave it out.

    Every frame is decoded once, so that a damaged one is found now.

    Args:
        episode: Episode of the source.
        number: Its number in the source.
        robot: The robot.
        cfg: The settings.
    """
    try:
        fitted = fit_episode(episode, robot, cfg)
        pictures, report = _store(fitted, robot, cfg)
    except ValueError as error:
        kind = error.kind if isinstance(error, UnfitEpisodeError) else DAMAGED
        return LeftOut(number, episode.id, kind, printable(str(error)))
    found = fitted.episode
    return ReadyEpisode(
        number=number,
        id=found.id,
        pictures=pictures,
        actions=np.concatenate([fitted.actions, robot.make_action()[None]]),
        instruction=found.instruction,
        camera=found.camera,
        task=found.task,
        success=found.success,
        report=report,
    )


def moves(actions: NDArray[np.float32], robot: RobotSpec) -> NDArray[np.bool_]:
    """Whether each of `actions` (T, A) moves the robot noticeably: (T,).

    A gripper's position, which differs from rest while it is held, does not count.
    """
    off = np.abs(actions - robot.make_action())
    off[:, robot.slices.get(OPENING, slice(0))] = 0
    found: NDArray[np.bool_] = (off > MOVING * (robot.high - robot.low)).any(axis=1)
    return found


def count_stuck(repeated: NDArray[np.bool_], moving: NDArray[np.bool_]) -> int:
    """Return the number of frames that repeat the one before for long while the robot moves.

    Args:
        repeated: (T - 1,) whether frame t + 1 is the same as frame t.
        moving: (T - 1,) whether the action between them moves the robot.
    """
    steps = np.diff(np.concatenate([[0], (repeated & moving).astype(np.int8), [0]]))
    lengths = np.flatnonzero(steps == -1) - np.flatnonzero(steps == 1)
    return int(lengths[lengths >= LONG].sum())


def _store(
    fitted: FittedEpisode, robot: RobotSpec, cfg: PrepareConfig
) -> tuple[list[bytes], Report]:
    """Encode every frame; look for repeated ones, and collect moments of their pixels.

    Raises:
        UnfitEpisodeError: A frame of another size, or all frames are the same.
        ValueError: A damaged frame.
    """
    pictures: list[bytes] = []
    kinds, pixels = Counter[str](), Moments()
    for picture, kind, frame in _encode(fitted.episode.frames, robot, cfg):
        pictures.append(picture)
        kinds[kind] += 1
        pixels += moments_of(frame[::EVERY, ::EVERY].reshape(-1, 3) / 255)
    stuck = _check_stuck(pictures, fitted.actions, robot)
    return pictures, Report(
        read=1,
        kept=1,
        frames=len(pictures),
        pictures=dict(kinds),
        misfits=fitted.misfits,
        beyond=fitted.beyond,
        at_rest=dict.fromkeys(fitted.at_rest, 1),
        stuck_frames=stuck,
        stuck_episodes=int(stuck > 0),
        actions=moments_of(fitted.actions),
        pixels=pixels,
    )


def _check_stuck(pictures: list[bytes], actions: NDArray[np.float32], robot: RobotSpec) -> int:
    repeated = np.array([one == other for one, other in pairwise(pictures)])
    moving = moves(actions, robot)
    if len(repeated) >= LONG and repeated.all() and moving.any():
        raise UnfitEpisodeError(
            "stuck",
            f"expected frames that change, found {len(pictures)} times the same one, although "
            f"{moving.sum()} actions move the robot",
        )
    return count_stuck(repeated, moving)


def _encode(
    frames: Frames, robot: RobotSpec, cfg: PrepareConfig
) -> Iterator[tuple[bytes, str, NDArray[np.uint8]]]:
    """Yield each frame as a picture, how it is stored, and its pixels as they will be read."""
    if cfg.pictures == "copy" and isinstance(frames, EncodedFrames):
        for step in range(len(frames)):
            picture = frames.encoded(step)
            if kind := _copied(picture, robot.frame_size):
                yield picture, kind, decode_picture(picture)
            else:
                frame = frames[step : step + 1][0]
                yield to_png(frame), "png", frame
        return
    size = max(BLOCK_BYTES // (3 * robot.frame_size[0] * robot.frame_size[1]), 1)
    for start in range(0, len(frames), size):
        for frame in frames[start : start + size]:
            if cfg.pictures == "jpeg":
                picture = to_jpeg(frame, cfg.quality)
                yield picture, "jpeg", decode_picture(picture)
            else:
                yield to_png(frame), "png", frame


def _copied(picture: bytes, size: tuple[int, int]) -> str:
    """Return how a stored picture counts if it can be kept as it is, and else "".

    It can if it has the right size, three colours, and needs no turning.
    """
    from PIL import ExifTags, Image

    try:
        with Image.open(BytesIO(picture)) as found:
            plain = found.format in COPIED and found.mode == "RGB" and found.size == size[::-1]
            upright = found.getexif().get(ExifTags.Base.Orientation, 1) == 1
            return f"copied {found.format}" if plain and upright else ""
    except (OSError, SyntaxError) as error:
        raise ValueError(f"a damaged picture: {error}") from error


def to_png(frame: NDArray[np.uint8]) -> bytes:
    """Return a frame (H, W, 3) as a PNG file."""
    return _save(frame, format="PNG", compress_level=PNG_LEVEL)


def to_jpeg(frame: NDArray[np.uint8], quality: int) -> bytes:
    """Return a frame (H, W, 3) as a JPEG file."""
    return _save(frame, format="JPEG", quality=quality)


def _save(frame: NDArray[np.uint8], **options: Any) -> bytes:
    from PIL import Image

    file = BytesIO()
    Image.fromarray(frame).save(file, **options)
    return file.getvalue()
