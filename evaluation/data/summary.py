"""The summary of recorded data: what is in it, and what to look at before using it."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.action_layouts import OPENING
from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ROBOTS, TERMINATE, RobotSpec
from v2w_gym.evaluation.data.alignment import Alignment, find_alignment
from v2w_gym.evaluation.data.reading import EpisodeFacts, Reading
from v2w_gym.evaluation.data.units import Finding, check_fields
from v2w_gym.evaluation.data.values import (
    FieldValues,
    ValueStatistics,
    count_values,
    group_fields,
)
from v2w_gym.world_models.data.fit import RATE_TOLERANCE

FROZEN = 5
"""Equal frames in a row, while a command moves the robot, of a camera that froze."""
COMMANDED = 0.05
"""Share of the width of its bounds by which a value moves the robot."""
NO_ALIGNMENT = Alignment(None, "no actions", 0, 0)


@dataclass(frozen=True)
class StuckFrames:
    """Frames that show no change, or nothing.

    Attributes:
        frames: Number of frames that were looked at.
        equal: Frames that equal the one before them in every pixel.
        longest: Most of them in a row, and the episode's name.
        frozen: Names of episodes with `FROZEN` equal frames in a row although actions are not rest.
        blank: Frames of one colour, such as black.
        blank_episodes: Names of episodes with such frames.
    """

    frames: int
    equal: int
    longest: tuple[int, str]
    frozen: tuple[str, ...]
    blank: int
    blank_episodes: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """What is in recorded data; every number is about the `read` episodes.

    Attributes:
        name: Name of the data.
        total: Number of episodes.
        chosen: Number of episodes to read, evenly spread.
        read: Number of them that could be read.
        failed: Number of an episode -> why it cannot be read.
        lengths: Frames of an episode: smallest, median, largest.
        sizes: Frame size, such as "256 x 320" -> episodes.
        rates: Frames per second -> episodes; "" where the data does not say.
        cameras: Camera -> episodes.
        instructions: Instruction -> episodes, the most frequent first.
        robot: Name of the robot whose bounds are compared; "" for none.
        success: Episodes that are solved at their last frame, and episodes where that is recorded.
        values: Statistics of each action value; empty without actions.
        stuck: Frames that show no change, or nothing.
        findings: Signs of wrong units or conventions.
        alignment: Whether actions stand at the frames that they move.
        notes: Other things to know before the data is used.
    """

    name: str
    total: int
    chosen: int
    read: int
    failed: Mapping[int, str]
    lengths: tuple[int, float, int]
    sizes: Mapping[str, int]
    rates: Mapping[str, int]
    cameras: Mapping[str, int]
    instructions: Mapping[str, int]
    robot: str
    success: tuple[int, int]
    values: tuple[ValueStatistics, ...]
    stuck: StuckFrames
    findings: tuple[Finding, ...]
    alignment: Alignment
    notes: tuple[str, ...]

    @property
    def settings(self) -> dict[str, object]:
        """The settings of `v2w prepare` that correct what was found."""
        scale = {each.field: each.factor for each in self.findings if each.factor is not None}
        shift = self.alignment.shift
        return {
            **({"action_shift": shift} if shift else {}),
            **({"scale": scale} if scale else {}),
        }


def summarise(name: str, reading: Reading, robot: str = "", rate: float | None = None) -> Summary:
    """Return the summary of episodes.

    Args:
        name: Name of the data.
        reading: The episodes.
        robot: Name of the robot to compare with; "" for what the data says.
        rate: Frames per second; None for what the data says.

    Raises:
        ValueError: Unknown robot, or no episode can be read.
    """
    if not reading.facts:
        why = next(iter(reading.failed.values()), "it is empty")
        raise ValueError(f"expected episodes in {name}, found none that can be read: {why}")
    spec = find_robot(reading.facts, robot)
    acting, left_out = acting_episodes(reading.facts)
    fields = fields_of(acting, spec)
    hertz = rate or _only_rate(reading.facts) or (spec.control_hz if spec else None)
    episodes = [facts.episode for facts in reading.facts]
    lengths = [len(episode) for episode in episodes]
    verdicts = [bool(e.success[-1]) for e in episodes if e.success is not None and len(e.success)]
    return Summary(
        name=name,
        total=reading.total,
        chosen=reading.chosen,
        read=len(episodes),
        failed=reading.failed,
        lengths=(min(lengths), float(np.median(lengths)), max(lengths)),
        sizes=_count(f"{facts.size[0]} x {facts.size[1]}" for facts in reading.facts),
        rates=_count("" if e.rate is None else f"{e.rate:g}" for e in episodes),
        cameras=_count(e.camera for e in episodes),
        instructions=_count(e.instruction for e in episodes if e.instruction),
        robot=_name(spec),
        success=(sum(verdicts), len(verdicts)),
        values=tuple(value for field in fields for value in count_values(field)),
        stuck=find_stuck(reading.facts, spec),
        findings=tuple(check_fields(fields, hertz)),
        alignment=align(acting) if acting else NO_ALIGNMENT,
        notes=(*left_out, *_notes(reading.facts, fields, spec, hertz)),
    )


def find_robot(facts: Sequence[EpisodeFacts], name: str) -> RobotSpec | None:
    """Return the robot of this name, or the one that every episode names.

    Raises:
        ValueError: Unknown robot.
    """
    if name:
        return lookup(ROBOTS, name, "robot")
    named = {each.episode.robot for each in facts}
    return ROBOTS.get(named.pop() or "") if len(named) == 1 else None


def acting_episodes(facts: Sequence[EpisodeFacts]) -> tuple[list[EpisodeFacts], list[str]]:
    """Return the episodes with the most common kind of actions, and a note on the others."""
    kinds = Counter(_kind(each) for each in facts if each.episode.actions is not None)
    if not kinds:
        return [], []
    usual = kinds.most_common(1)[0][0]
    acting = [each for each in facts if _kind(each) == usual]
    others = sum(kinds.values()) - len(acting)
    without = len(facts) - sum(kinds.values())
    notes = []
    if others:
        notes.append(f"episodes with other action fields, whose actions are left out: {others}")
    if without:
        notes.append(f"episodes without actions: {without}")
    return acting, notes


def fields_of(acting: Sequence[EpisodeFacts], robot: RobotSpec | None) -> list[FieldValues]:
    """Return the recorded values of each action field; empty without actions."""
    actions = [each.episode.actions for each in acting]
    known = [each for each in actions if each is not None and len(each)]
    return group_fields(known, acting[0].episode.action_fields, robot) if known else []


def align(acting: Sequence[EpisodeFacts]) -> Alignment:
    """Compare motion and actions; an action that is not finite counts as rest."""
    pairs = [
        (each.motion, np.nan_to_num(each.episode.actions, posinf=0, neginf=0))
        for each in acting
        if each.episode.actions is not None and len(each.episode.actions) == len(each.motion)
    ]
    return find_alignment([motion for motion, _ in pairs], [actions for _, actions in pairs])


def find_stuck(facts: Sequence[EpisodeFacts], robot: RobotSpec | None) -> StuckFrames:
    """Count frames that equal the one before them, and those of one colour."""
    longest = max(((_longest_run(each.stuck), each.episode.id) for each in facts), default=(0, ""))
    frozen = [
        each.episode.id
        for each in facts
        if _longest_run(each.stuck & _is_commanded(each, robot)) >= FROZEN
    ]
    return StuckFrames(
        frames=sum(len(each.blank) for each in facts),
        equal=sum(int(each.stuck.sum()) for each in facts),
        longest=longest if longest[0] else (0, ""),
        frozen=tuple(frozen),
        blank=sum(int(each.blank.sum()) for each in facts),
        blank_episodes=tuple(each.episode.id for each in facts if each.blank.any()),
    )


def _is_commanded(facts: EpisodeFacts, robot: RobotSpec | None) -> NDArray[np.bool_]:
    actions = facts.episode.actions
    if actions is None or len(actions) != len(facts.stuck):
        return np.zeros(len(facts.stuck), np.bool_)
    fields = group_fields([actions], facts.episode.action_fields, robot)
    commanded = np.zeros(len(actions), np.bool_)
    for field in fields:
        if field.spec is not None and field.name not in (OPENING, TERMINATE):
            commanded |= (np.abs(field.episodes[0] - field.resting) > COMMANDED * field.width).any(
                axis=1
            )
    return commanded


def _longest_run(flags: NDArray[np.bool_]) -> int:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _kind(facts: EpisodeFacts) -> tuple[int, object] | None:
    actions = facts.episode.actions
    return None if actions is None else (actions.shape[1], facts.episode.action_fields)


def _only_rate(facts: Sequence[EpisodeFacts]) -> float | None:
    rates = {each.episode.rate for each in facts}
    return rates.pop() if len(rates) == 1 else None


def _count(names: object) -> dict[str, int]:
    return dict(Counter(names).most_common())  # type: ignore[call-overload]


def _notes(
    facts: Sequence[EpisodeFacts],
    fields: Sequence[FieldValues],
    robot: RobotSpec | None,
    rate: float | None,
) -> list[str]:
    """Return what differs from the robot."""
    named = sorted({each.episode.robot for each in facts if each.episode.robot} - {_name(robot)})
    others = [f"the data names robot {', '.join(named)}, which is not compared"] if named else []
    if robot is None:
        return others
    return [*others, *_field_notes(fields, robot), *_frame_notes(facts, robot, rate)]


def _field_notes(fields: Sequence[FieldValues], robot: RobotSpec) -> list[str]:
    known = {field.name for field in fields if field.spec is not None}
    if not fields:
        return []
    if not known:
        width = sum(field.size for field in fields)
        return [
            f"the actions have {width} values that do not name the fields of robot {robot.name!r}, "
            f"which has {robot.action_size}; name them with fields=FILE.yaml"
        ]
    unknown = [f"{field.name} of {field.size}" for field in fields if field.spec is None]
    lacking = [each.name for each in robot.fields if each.name not in known]
    return [
        *(f"robot {robot.name!r} has no field {name}" for name in unknown),
        *([f"the data lacks {', '.join(lacking)}, which then rest"] if lacking else []),
    ]


def _frame_notes(
    facts: Sequence[EpisodeFacts], robot: RobotSpec, rate: float | None
) -> Iterator[str]:
    if sizes := {each.size for each in facts} - {robot.frame_size}:
        height, width = min(sizes)
        yield (
            f"frames of {height} x {width} are not those of robot {robot.name!r}, "
            f"{robot.frame_size[0]} x {robot.frame_size[1]}: fit=true crops and resizes them"
        )
    if rate is not None and abs(rate - robot.control_hz) > RATE_TOLERANCE * robot.control_hz:
        yield (
            f"{rate:g} frames per second are not the rate of robot {robot.name!r}, "
            f"{robot.control_hz:g}"
        )


def _name(robot: RobotSpec | None) -> str:
    return "" if robot is None else robot.name
