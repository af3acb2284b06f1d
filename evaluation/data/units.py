"""Signs of wrong units and conventions in recorded actions, from their values alone.

Each check is about one field and needs a robot, whose bounds say what is possible. It speaks only
where the values contradict the robot, and names a factor only if one makes them fit. A wrong unit
that stays within the bounds leaves no sign.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.action_layouts import GRIPPER, OPENING
from v2w_gym.evaluation.data.values import FieldValues, is_beyond

TOO_FAR = 2.0
"""The 99 % point is this many times the bound in other units."""
TOO_MANY = 0.2
"""Share of values beyond the bounds in other units."""
TOO_SMALL = 0.005
"""The 99 % point is this share of the bound in other units, too."""
SPEEDS = {"m": 0.3, "rad": 1.0}
"""Unit -> a fast speed of a robot, per second."""
UNIT_FACTORS = {
    "m": {"millimetres": 1e-3, "centimetres": 1e-2},
    "rad": {"degrees": np.pi / 180},
}
"""Unit -> other units, and the factor that converts them."""
REPAIRED = {"m": {"a thousandth": 1e3}, "rad": {"radians that were taken for degrees": 180 / np.pi}}
"""Unit -> units that make values too small, and the factor that converts them."""
NORMALISED = "normalised to [-1, 1], with the bound for 1"
SATURATED = 0.01
"""Share of the actions in which normalised values are 1 or -1."""
ABOUT_ONE = (0.3, 3.0)
"""Values of this size may also be normalised in a way that nothing tells."""
DRIFT = 0.12
"""Successive differences of positions are smaller than this share of the positions."""
NEAR = 0.05
"""How near a gripper's position is to one of its ends."""
MOST = 0.9
"""Share of values, or episodes, that counts as nearly all."""
LEAST_EPISODES = 5
LEAST_RUN = 3
"""Steps that a gripper keeps its position for."""


@dataclass(frozen=True)
class Finding:
    """A sign of a wrong unit or convention.

    Attributes:
        field: Name of the action field.
        text: What was found, for people.
        factor: Factor that makes the values fit, for `scale`; None if there is none.
    """

    field: str
    text: str
    factor: float | None = None

    def __str__(self) -> str:
        """Return it in one line, with the setting that corrects it."""
        setting = "" if self.factor is None else f": scale={{{self.field}: {self.factor:.6g}}}"
        return f"{self.field}: {self.text}{setting}"


def check_fields(fields: Sequence[FieldValues], rate: float | None) -> list[Finding]:
    """Return every sign that was found.

    Args:
        fields: The recorded values of every field.
        rate: Actions per second; None if it is unknown.
    """
    found: list[Finding] = []
    for field in fields:
        found += [each for each in (_missing(field), _constant(field), _one_hot(field)) if each]
        convention = _gripper(field) or _positions(field) or _scale(field, rate)
        found += [convention] if convention else []
    return found


def _missing(field: FieldValues) -> Finding | None:
    for number, values in enumerate(field.episodes):
        rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(rows):
            count = sum(int((~np.isfinite(each)).any(axis=1).sum()) for each in field.episodes)
            return Finding(
                field.name,
                f"{count} actions are not finite, the first at step {rows[0]} of episode {number} "
                "of those read",
            )
    return None


def _constant(field: FieldValues) -> Finding | None:
    """Find values that never change, and are not at rest."""
    values = field.together
    if len(values) < 2:
        return None
    same = (values == values[0]).all(axis=0) & (np.abs(values[0] - field.resting) > 0)
    if field.spec is None or not same.any():
        return None
    names = [name for name, constant in zip(field.labels, same, strict=True) if constant]
    where = ", ".join(names) if len(names) < field.size or field.size == 1 else "all values"
    return Finding(field.name, f"{where} never change from {values[0][same][0]:.4g}")


def _one_hot(field: FieldValues) -> Finding | None:
    """Find a choice that is none: the order of the fields may be another one."""
    if field.spec is None or not field.spec.is_one_hot or not len(field.together):
        return None
    values = field.together
    wrong = (values.sum(axis=1) != 1) | ((values != 0) & (values != 1)).any(axis=1)
    if wrong.mean() <= 1 / 2:
        return None
    return Finding(
        field.name,
        f"{wrong.mean():.0%} of the actions are not one-hot; the data may have its fields in "
        "another order, or give numbers where names are meant",
    )


def _scale(field: FieldValues, rate: float | None) -> Finding | None:
    """Find values that are far outside the bounds, or tiny, and the unit that explains it."""
    spec, values = field.spec, np.abs(field.together)
    if spec is None or spec.is_one_hot or not len(values):
        return None
    bound = max(abs(spec.low), abs(spec.high))
    reach = float(np.quantile(values, 0.99, axis=0).max())
    if not bound:
        return _immovable(field, reach)
    unit = spec.unit.partition(",")[0]
    beyond = is_beyond(field).mean(axis=0).max()
    if reach > TOO_FAR * bound or beyond > TOO_MANY:
        factors = {**UNIT_FACTORS.get(unit, {}), **_conversions(values, bound, rate)}
        text = f"values are too large: 99 % of them are up to {reach:.4g}, the bound is {bound:.4g}"
    elif 0 < reach < TOO_SMALL * bound:
        factors = REPAIRED.get(unit, {})
        text = f"values are tiny: 99 % of them are up to {reach:.2g}, the bound is {bound:.4g}"
    else:
        return _filled(field, rate)
    if unit not in SPEEDS:
        factors = {k: f for k, f in factors.items() if k == NORMALISED}
    expected = min(bound, SPEEDS.get(unit, np.inf) / (rate or 1))
    return _name_unit(field, text, factors, reach, bound, expected)


def _conversions(values: NDArray[np.float32], bound: float, rate: float | None) -> dict[str, float]:
    """Return conversions that do not depend on the unit."""
    found = {}
    if values.max() <= 1 + 1e-3 and (values > 1 - 1e-3).any(axis=1).mean() > SATURATED:
        found[NORMALISED] = bound
    if rate is not None and rate > 1:
        found["per second, not per step"] = 1 / rate
    return found


def _name_unit(
    field: FieldValues,
    text: str,
    factors: dict[str, float],
    reach: float,
    bound: float,
    expected: float,
) -> Finding:
    """Name the conversion that brings the values nearest to what is expected, if one fits."""
    fitting = {k: f for k, f in factors.items() if expected / 30 < reach * f <= 1.2 * bound}
    if not fitting:
        return Finding(field.name, f"{text}; no known unit explains it")
    if ABOUT_ONE[0] < reach < ABOUT_ONE[1] and NORMALISED not in fitting:
        named = ", ".join(["normalised", *fitting])
        return Finding(field.name, f"{text}; they may be one of: {named}")
    best = min(fitting, key=lambda k: abs(np.log(reach * fitting[k] / expected)))
    alike = [k for k, f in fitting.items() if k != best and 1 / 3 < f / fitting[best] < 3]
    named = " or ".join([best, *alike])
    return Finding(field.name, f"{text}; they may be {named}", None if alike else fitting[best])


def _immovable(field: FieldValues, reach: float) -> Finding | None:
    if reach == 0:
        return None
    return Finding(
        field.name, f"values are up to {reach:.4g}, but this robot cannot move it and clips them"
    )


def _filled(field: FieldValues, rate: float | None) -> Finding | None:
    """Find values that fill [-1, 1], at a speed that no such robot has."""
    spec, values = field.spec, np.abs(field.together)
    unit = spec.unit.partition(",")[0] if spec else ""
    speed = SPEEDS.get(unit)
    if speed is None or rate is None or values.max() > 1 + 1e-3:
        return None
    reach = float(np.quantile(values, 0.99, axis=0).min())
    if reach < 2 / 3 or reach * rate < 5 * speed:
        return None
    return Finding(
        field.name,
        f"values fill [-1, 1], up to {reach * rate:.2g} {unit} per second; they may be normalised, "
        "then undo it with the data set's own statistics",
    )


def _positions(field: FieldValues) -> Finding | None:
    """Find positions where displacements are expected: they drift and change little."""
    spec = field.spec
    if spec is None or spec.unit.partition(",")[0] not in SPEEDS:
        return None
    values = field.together
    changes = [np.diff(each, axis=0) for each in field.episodes if len(each) > 1]
    if not len(values) or not changes:
        return None
    change = np.concatenate(changes)
    change = change[np.isfinite(change).all(axis=1)]
    moving = (change != 0).any(axis=0)
    if not moving.any():
        return None
    size, step = _size(values)[moving], _size(change)[moving]
    bound = max(abs(spec.low), abs(spec.high))
    beyond = (size > TOO_FAR * bound) & (np.quantile(np.abs(change), 0.99) < 1.2 * bound)
    if (beyond | (step < DRIFT * size)).mean() <= 1 / 2:
        return None
    return Finding(
        field.name,
        f"values look like positions, not displacements: their size is {size.max():.2g}, but from "
        f"step to step they change by {step.max():.2g}; take the differences first",
    )


def _size(values: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the root mean square of each column."""
    root: NDArray[np.float64] = np.sqrt((values.astype(np.float64) ** 2).mean(axis=0))
    return root


def _gripper(field: FieldValues) -> Finding | None:
    if field.spec is None or field.name not in (GRIPPER, OPENING) or not len(field.together):
        return None
    return _gripper_change(field) if field.name == GRIPPER else _gripper_position(field)


def _gripper_change(field: FieldValues) -> Finding | None:
    """Find a position where a change is expected, or changes of the opposite sign."""
    if (lower := _ends(field.together)) is not None and _typical_run(field) >= LEAST_RUN:
        begins = np.array([each[0, 0] > (1 + lower) / 2 for each in field.episodes if len(each)])
        first = 1 if begins.mean() > 1 / 2 else lower
        return Finding(
            field.name,
            f"values are a position ({lower:g} or 1, kept for many steps), not a change; "
            f"{max(begins.mean(), 1 - begins.mean()):.0%} of the episodes begin at {first:g}, "
            "which is open if the gripper begins open; take differences first",
        )
    firsts = [
        each[np.flatnonzero(np.abs(each[:, 0]) > 1 / 2)[0], 0]
        for each in field.episodes
        if (np.abs(each[:, 0]) > 1 / 2).any()
    ]
    opening = np.mean(np.array(firsts) < 0) if firsts else 0.0
    if len(firsts) < LEAST_EPISODES or opening < MOST:
        return None
    return Finding(
        field.name,
        f"the first movement opens (-) in {opening:.0%} of {len(firsts)} episodes; if the gripper "
        f"begins open, the sign is reversed, and scale={{{field.name}: -1}} corrects it",
    )


def _gripper_position(field: FieldValues) -> Finding | None:
    """Find positions with other ends, or episodes that begin closed."""
    if _ends(field.together) == -1:
        return Finding(field.name, "values are -1 or 1, but 0 (closed) to 1 (open) is expected")
    begins = np.array([each[0, 0] < 1 / 2 for each in field.episodes if len(each)])
    if len(begins) < LEAST_EPISODES or begins.mean() < MOST:
        return None
    return Finding(
        field.name,
        f"{begins.mean():.0%} of {len(begins)} episodes begin closed (0); 1 may mean closed here",
    )


def _ends(values: NDArray[np.float32]) -> int | None:
    """Return the lower end of a position in [0, 1] or [-1, 1]; None if values are no positions."""
    upper = np.abs(values - 1) <= NEAR
    for lower in (0, -1):
        at = np.abs(values - lower) <= NEAR
        inside = (values >= lower - NEAR) & (values <= 1 + NEAR)
        if inside.all() and (at | upper).mean() >= MOST and min(at.mean(), upper.mean()) > NEAR:
            return lower
    return None


def _typical_run(field: FieldValues) -> float:
    """Return the median number of steps that a value other than the lower end is kept for."""
    runs: list[int] = []
    for values in field.episodes:
        high = values[:, 0] > 1 / 2
        edges = np.flatnonzero(np.diff(np.concatenate([[False], high, [False]])))
        runs += [int(end - start) for start, end in zip(edges[::2], edges[1::2], strict=True)]
    return float(np.median(runs)) if runs else 0.0
