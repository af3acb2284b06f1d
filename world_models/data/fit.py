"""One recorded episode as a robot's: its frame size, its actions in its order and units."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.data import FitSettings
from v2w_gym.configs.names import hint, lookup
from v2w_gym.configs.robots import ROUNDING, RobotSpec
from v2w_gym.world_models.data.episode import EncodedFrames, Episode, Frames, Steps, rows_of
from v2w_gym.world_models.data.recorded_actions import Misfits, execute_recorded

LEAST_FRAMES = 2
"""Fewest frames of an episode: one action lies between them."""
RATE_TOLERANCE = 0.02
"""Relative difference of two rates that count as the same, such as 30 and 29.97."""
AT_ONCE = 16
"""Frames that are resized together."""

Actions: TypeAlias = NDArray[np.float32]


class UnfitEpisodeError(ValueError):
    """An episode that is not one of the robot.

    Attributes:
        kind: Short name of the reason, for counting.
    """

    def __init__(self, kind: str, message: str) -> None:
        """Describe one episode."""
        super().__init__(kind, message)
        self.kind = kind

    def __str__(self) -> str:
        """Return the message."""
        return str(self.args[1])


@dataclass(frozen=True)
class Beyond:
    """Values of one action field outside its bounds, which were clipped.

    Attributes:
        values: Number of such values.
        worst: The value that is farthest from the bounds.
        distance: Its distance from them.
    """

    values: int
    worst: float
    distance: float

    def __add__(self, other: "Beyond") -> "Beyond":
        """Return both together."""
        far = max(self, other, key=lambda each: each.distance)
        return Beyond(self.values + other.values, far.worst, far.distance)


@dataclass(frozen=True)
class FittedEpisode:
    """An episode of a robot, and what was corrected.

    Attributes:
        episode: The episode. Its frames have the robot's size, and its actions (T - 1, A) are as
            the robot executes them.
        misfits: Counts of corrected actions.
        beyond: Action field -> its values outside the bounds; only fields that have some.
        at_rest: The robot's fields that the source lacks; they do nothing.
    """

    episode: Episode
    misfits: Misfits
    beyond: Mapping[str, Beyond]
    at_rest: tuple[str, ...]

    @property
    def actions(self) -> Actions:
        """The actions (T - 1, A), as the robot executes them."""
        assert self.episode.actions is not None
        return self.episode.actions


class _Part:
    """Frames of a robot, cut from a longer episode.

    They are checked, or cropped and resized, when they are read.
    """

    def __init__(self, frames: Frames, place: slice, robot: RobotSpec, fit: bool) -> None:
        self._frames, self._robot, self._fit = frames, robot, fit
        self._rows = range(len(frames))[place]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, steps: Steps) -> NDArray[np.uint8]:
        rows = rows_of(steps, len(self)) + self._rows.start
        contiguous = len(rows) > 0 and bool((np.diff(rows) == 1).all())
        found = self._frames[slice(rows[0], rows[-1] + 1) if contiguous else rows]
        if found.shape[1:3] == self._robot.frame_size:
            return found
        if self._fit:
            return _resize(found, self._robot.frame_size)
        raise UnfitEpisodeError("frame size", _another_size(found, self._robot))


class _EncodedPart(_Part):
    """Such frames that the source stores as pictures of the robot's size."""

    _frames: EncodedFrames

    def encoded(self, step: int) -> bytes:
        return self._frames.encoded(self._rows[step])


def fit_episode(
    episode: Episode,
    robot: RobotSpec,
    settings: FitSettings | None = None,
    origin: object = None,
) -> FittedEpisode:
    """Return a recorded episode as one of the robot.

    Only the first frame is decoded. A later frame of another size, or a damaged one, raises when it
    is read.

    Args:
        episode: Episode of a source.
        robot: The robot.
        settings: Shift and units of the actions, and whether to resize frames.
        origin: Source of the episode, for messages; None if the caller names it.

    Raises:
        UnfitEpisodeError: Another robot, rate or frame size, fewer than `LEAST_FRAMES` frames, no
            actions, or actions with other fields, NaN or other units.
        ValueError: A setting that the robot lacks, or a damaged frame.
    """
    try:
        return _fit(episode, robot, settings or FitSettings())
    except UnfitEpisodeError as error:
        if origin is None:
            raise
        raise UnfitEpisodeError(
            error.kind,
            f"expected an episode of robot {robot.name!r} in {origin}, found this: {error}",
        ) from error


def in_robots_order(episode: Episode, robot: RobotSpec) -> Episode:
    """Return an episode whose actions, if it has some, are in the robot's order.

    Fields that it lacks are at rest. Values stay as they were recorded.

    Raises:
        UnfitEpisodeError: Other action fields, or another number of values.
    """
    if episode.action_fields is None or episode.actions is None:
        return episode
    with _refusing("actions"):
        return replace(episode, actions=_arranged(episode, robot)[0], action_fields=None)


def _fit(episode: Episode, robot: RobotSpec, settings: FitSettings) -> FittedEpisode:
    scale = scale_factors(settings.scale, robot)
    _check_robot(episode, robot)
    _check_rate(settings.rate or episode.rate, robot)
    kept, taken = _shifted(len(episode), settings.action_shift)
    with _refusing("actions"):
        recorded, at_rest = _arranged(episode, robot)
        recorded = recorded[taken] * scale
        actions, misfits = execute_recorded(recorded, robot, episode.id)
    fitted = replace(
        episode,
        frames=_fit_frames(episode.frames, kept, robot, settings.fit),
        actions=actions,
        action_fields=None,
        rate=robot.control_hz,
        robot=robot.name,
        success=None if episode.success is None else episode.success[kept],
    )
    return FittedEpisode(fitted, misfits, _beyond(recorded, actions, robot), at_rest)


def fit_frames(episode: Episode, place: slice, robot: RobotSpec, fit: bool) -> Frames:
    """Return some frames of an episode, which may lack actions, as frames of the robot.

    Raises:
        UnfitEpisodeError: Another robot or frame size.
        ValueError: A damaged frame.
    """
    _check_robot(episode, robot)
    return _fit_frames(episode.frames, place, robot, fit)


def _check_robot(episode: Episode, robot: RobotSpec) -> None:
    if episode.robot not in (None, robot.name):
        raise UnfitEpisodeError(
            "robot", f"expected an episode of robot {robot.name!r}, found one of {episode.robot!r}"
        )


def _check_rate(rate: float | None, robot: RobotSpec) -> None:
    """Check that a frame follows each action: a model of 3 Hz learns nothing from 30 Hz."""
    if rate is not None and abs(rate / robot.control_hz - 1) > RATE_TOLERANCE:
        raise UnfitEpisodeError(
            "rate",
            f"expected {robot.control_hz:g} frames per second, the rate of robot {robot.name!r}, "
            f"found {rate:g}; if the source is wrong, give rate={robot.control_hz:g}; else record "
            f"or resample it at that rate, or add a robot that acts {rate:g} times a second",
        )


def _shifted(length: int, shift: int) -> tuple[slice, slice]:
    """Return which of T frames and of T - 1 actions stay if action t + shift belongs to frame t."""
    late, early = max(shift, 0), max(-shift, 0)
    if length - late - early < LEAST_FRAMES:
        after = f" after action_shift={shift}" if shift else ""
        raise UnfitEpisodeError(
            "too short",
            f"expected at least {LEAST_FRAMES} frames{after}, found {length - late - early}",
        )
    return slice(early, length - late), slice(late, length - 1 - early)


def _arranged(episode: Episode, robot: RobotSpec) -> tuple[Actions, tuple[str, ...]]:
    """Return the actions (T - 1, A) in the robot's order, and the fields that the source lacks.

    Raises:
        ValueError: No actions, or others than the robot's.
    """
    actions, named = episode.actions, episode.action_fields
    if actions is None:
        raise ValueError(
            f"expected actions of robot {robot.name!r}, found none; name the data set's fields "
            "with fields=FILE.yaml"
        )
    if named is not None:
        _check_fields(named, robot)
    sizes = dict(named or robot.action_layout.fields)
    if actions.shape != (len(episode) - 1, sum(sizes.values())):
        raise ValueError(
            f"expected actions of shape {(len(episode) - 1, sum(sizes.values()))} for "
            f"{len(episode)} frames of robot {robot.name!r}, found {actions.shape}"
        )
    if named is None:
        return actions, ()
    arranged = np.tile(robot.make_action(), (len(actions), 1))
    start = 0
    for name, size in named:
        arranged[:, robot.slices[name]] = actions[:, start : start + size]
        start += size
    return arranged, tuple(name for name in robot.slices if name not in sizes)


def _check_fields(named: tuple[tuple[str, int], ...], robot: RobotSpec) -> None:
    sizes = dict(robot.action_layout.fields)
    for name, size in named:
        if name not in sizes:
            raise ValueError(
                f"expected action fields of robot {robot.name!r} ({', '.join(sizes)}), found "
                f"{name!r}{hint(name, sizes)}; name the source's fields with fields=FILE.yaml"
            )
        if size != sizes[name]:
            raise ValueError(
                f"expected {sizes[name]} values of {name} for robot {robot.name!r}, found {size}"
            )
    if len(dict(named)) < len(named):
        raise ValueError(f"expected each action field once, found {[name for name, _ in named]}")


def scale_factors(scale: Mapping[str, float], robot: RobotSpec) -> Actions:
    """Return the factor of each action value, (A,).

    Args:
        scale: Action field -> factor; the others have 1.
        robot: The robot.

    Raises:
        ValueError: A field that the robot lacks.
    """
    factors = np.ones(robot.action_size, np.float32)
    for name, factor in scale.items():
        factors[lookup(robot.slices, name, "scale")] = factor
    return factors


def _fit_frames(frames: Frames, kept: slice, robot: RobotSpec, fit: bool) -> Frames:
    first = frames[kept.start : kept.start + 1]
    right = first.shape[1:3] == robot.frame_size
    if not right and not fit:
        raise UnfitEpisodeError("frame size", _another_size(first, robot))
    part = _EncodedPart if right and isinstance(frames, EncodedFrames) else _Part
    return part(frames, kept, robot, fit)


def _resize(frames: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Crop and resize frames, few at a time: as floats they take four times the memory."""
    from v2w_gym.world_models.frames import fit  # imports torch

    starts = range(0, max(len(frames), 1), AT_ONCE)
    return np.concatenate([fit(frames[start : start + AT_ONCE], size) for start in starts])


def _another_size(frames: NDArray[np.uint8], robot: RobotSpec) -> str:
    height, width = robot.frame_size
    return (
        f"expected frames of {height} x {width} pixels for robot {robot.name!r}, found "
        f"{frames.shape[1]} x {frames.shape[2]}; fit=true crops and resizes them"
    )


def _beyond(recorded: Actions, executed: Actions, robot: RobotSpec) -> Mapping[str, Beyond]:
    """Return what was clipped of each field; one-hot fields are set to rest instead."""
    found = {}
    for field in robot.fields:
        values = recorded[:, robot.slices[field.name]]
        off = np.abs(values - executed[:, robot.slices[field.name]])
        if not field.is_one_hot and off.max() > ROUNDING:
            farthest = np.unravel_index(np.argmax(off), off.shape)
            found[field.name] = Beyond(
                int((off > ROUNDING).sum()), float(values[farthest]), float(off[farthest])
            )
    return found


@contextmanager
def _refusing(kind: str) -> Iterator[None]:
    """Turn an error about an episode into one with the kind of its reason."""
    try:
        yield
    except ValueError as error:
        raise UnfitEpisodeError(kind, str(error)) from error
