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
    size = sum(told["bytes"] for told in data.card["files"].values()) / 1e6
    stored = ", ".join(f"{count:,} {kind}" for kind, count in report.pictures.items())
    yield f"episodes     {report.kept:,} of {report.read:,} in {data.folder}"
    yield f"frames       {report.frames:,} ({stored}), {size:,.1f} MB in {len(data.files)} files"
    yield f"robot        {data.robot.name}, {data.robot.control_hz:g} frames per second"


def _corrected(report: Report) -> Iterator[str]:
    for name, beyond in report.beyond.items():
        yield (
            f"clipped      {beyond.values:,} values of {name} beyond the robot's bounds, the "
            f"farthest {beyond.worst:.4g} by {beyond.distance:.4g}"
        )
    if report.misfits.not_one_hot:
        yield f"set to rest  {report.misfits.not_one_hot:,} fields that should be one-hot"
    for name, count in report.at_rest.items():
        yield f"at rest      {name}, which {count:,} episodes lack"
    if report.stuck_frames:
        yield (
            f"stuck        {report.stuck_frames:,} frames in {report.stuck_episodes:,} episodes "
            "repeat the one before for long while the actions move the robot"
        )


def _left_out(data: PreparedData, report: Report) -> Iterator[str]:
    for kind, count, _ in report.kinds():
        yield f"left out     {count:,} for this reason: {kind}"
        for each in [each for each in report.left_out if each.kind == kind][:SHOWN]:
            yield f"               {each.id or f'number {each.number}'}: {each.reason}"
    if report.left_out:
        yield f"             {data.folder / CARD} lists all of them"
