"""The report of a preparation as text."""

from collections.abc import Iterator

from v2w_gym.world_models.data.prepared import CARD, PreparedData
from v2w_gym.world_models.data.preparing.report import Report, report_from_json

SHOWN = 2
"""Examples of each reason."""


def summarise(data: PreparedData) -> str:
    """Return a table of what a prepared folder holds, what was corrected and what was left out."""
    report = report_from_json(data.card["report"])
    return "\n".join([*_kept(data, report), *_corrected(report), *_left_out(data, report)])


def _kept(data: PreparedData, report: Report) -> Iterator[str]:
    size = sum(stored["bytes"] for stored in data.card["files"].values()) / 1e6
    stored = ", ".join(f"{count:,} {kind}" for kind, count in report.pictures.items())
    files = _many(len(data.files), "file")
    yield f"episodes     {report.kept:,} of {report.read:,} in {data.folder}"
    yield f"frames       {report.frames:,} ({stored}), {size:,.1f} MB in {files}"
    yield f"robot        {data.robot.name}, {data.robot.control_hz:g} frames per second"


def _corrected(report: Report) -> Iterator[str]:
    for name, beyond in report.beyond.items():
        yield (
            f"clipped      {_many(beyond.values, 'value')} of {name} beyond the robot's bounds, "
            f"the farthest {beyond.worst:.4g} by {beyond.distance:.4g}"
        )
    if count := report.misfits.not_one_hot:
        yield f"set to rest  fields that should be one-hot in {_many(count, 'action')}"
    for name, count in report.at_rest.items():
        yield f"at rest      {name}, which the source lacks in {_many(count, 'episode')}"
    if report.stuck_frames:
        yield (
            f"stuck        {_many(report.stuck_frames, 'frame')} in "
            f"{_many(report.stuck_episodes, 'episode')} repeat the one before for long while the "
            "actions move the robot"
        )


def _left_out(data: PreparedData, report: Report) -> Iterator[str]:
    for kind, count, _ in report.kinds():
        yield f"left out     {_many(count, 'episode')} for this reason: {kind}"
        for each in [each for each in report.left_out if each.kind == kind][:SHOWN]:
            yield f"               {each.id or f'number {each.number}'}: {each.reason}"
    if report.left_out:
        yield f"             {data.folder / CARD} lists all of them"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"
