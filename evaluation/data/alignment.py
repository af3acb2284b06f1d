"""Whether actions stand at the frames that they move: an off-by-one leaves a trace.

A robot moves after a command, never before it, and keeps moving for a step or two. So the motion
from frame t to t + 1 is modelled as

    motion[t] = sum over s of response[s] * actions[t + s] @ weights + noise

with one `response` for all action values, which makes it exact enough for few episodes. In data
that is aligned, the response begins at s = 0 and continues at s = -1, -2, ... If it begins at
s = k, the actions are stored k steps late.

The shift with the best fit alone would not do: many robots move most one step after the command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

REACHES = ((24, 4), (12, 3), (0, 2))
"""Typical number of actions in an episode -> steps to look back and ahead."""
NOTHING, SOMETHING = 0.3, 0.5
"""Shares of its peak: the response begins where it rises from below the one to above the other."""
AGREEMENT = 0.97
"""Share of resampled sets of episodes that must agree."""
RESAMPLED = 200
"""Resampled sets of episodes."""
LEAST_EPISODES = 15
LEAST_STEPS = 75
"""Fewest steps in all episodes together that are worth a look."""
FOLDS = 5
"""Parts of the episodes, each predicted from the others."""
ROUNDS = 12
"""Alternating least-squares fits of the response and the weights."""
PENALTY = 10.0
"""Ridge penalty of the weights, for standardised actions."""
DRAWS_AT_ONCE, STEPS_AT_ONCE = 25, 2000
TINY = 1e-12
CLIPPED = 5
"""Standard deviations at which motion is clipped, so that a camera cut does not decide."""

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Alignment:
    """The steps at which actions move the frames.

    Attributes:
        shift: Steps by which actions are stored late, negative if early; None if it is unclear.
        reason: Why they do not; "" otherwise.
        episodes: Number of episodes that were long enough.
        steps: Number of frame changes in them.
        lags: Steps s between an action and the frame change that it may explain.
        response: Response to an action at each lag, relative to its peak.
        deviation: Standard deviation of the response over resampled episodes.
        agreement: Share of resampled sets of episodes with the same shift.
        r2: Share of the motion that the actions explain in left-out episodes.
        r2_swapped: The same with the actions of another episode, which should explain less.
    """

    shift: int | None
    reason: str
    episodes: int
    steps: int
    lags: tuple[int, ...] = ()
    response: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    agreement: float = 0.0
    r2: float = 0.0
    r2_swapped: float = 0.0

    def __str__(self) -> str:
        """Return the verdict in one line."""
        if not self.episodes:
            return f"cannot tell: {self.reason}"
        basis = f"{self.episodes} episode{'s' * (self.episodes != 1)}"
        if self.lags:
            basis += f", R2 {self.r2:.2f}"
        if self.shift is None:
            return f"cannot tell: {self.reason} ({basis})"
        if self.shift == 0:
            return f"aligned ({basis})"
        late = f"{abs(self.shift)} step{'s' * (abs(self.shift) > 1)}"
        if self.shift > 0:
            return f"actions seem {late} late: action_shift={self.shift} ({basis})"
        return (
            f"actions seem {late} early, or the robot answers that late: "
            f"action_shift={self.shift} ({basis})"
        )


@dataclass(frozen=True)
class _Products:
    """Sums of products over the steps of each of E episodes.

    Attributes:
        actions: (E, L, A, L, A), of actions at two lags.
        both: (E, L, A, D), of actions and motion.
        motion: (E,), of motion with itself.
        steps: (E,), number of steps.
    """

    actions: Array
    both: Array
    motion: Array
    steps: NDArray[np.int64]

    def sum(self, episodes: NDArray[np.int64]) -> tuple[Array, Array]:
        """Return the sums over some episodes."""
        return self.actions[episodes].sum(axis=0), self.both[episodes].sum(axis=0)


def find_alignment(
    motion: Sequence[NDArray[np.float32]], actions: Sequence[NDArray[np.float32]], seed: int = 0
) -> Alignment:
    """Return how many steps late the actions of E episodes are stored.

    Args:
        motion: (T - 1, D) of each episode, from frame t to t + 1.
        actions: (T - 1, A) of each episode, `actions[t]` being stored at frame t.
        seed: Seed of the resampling.
    """
    reach = _choose_reach(actions)
    long = [i for i, each in enumerate(actions) if len(each) > 2 * reach]
    steps = sum(len(actions[i]) - 2 * reach for i in long)
    if len(long) < LEAST_EPISODES or steps < LEAST_STEPS:
        return Alignment(None, "too few steps", len(long), steps)
    moved = _without_course(_standardise([motion[i] for i in long], clipped=CLIPPED))
    acted = _without_course(_standardise([actions[i] for i in long]))
    if not acted[0].shape[1] or not moved[0].shape[1]:
        return Alignment(None, "nothing moves", len(long), steps)
    if min(sum(np.square(each).sum() for each in part) for part in (moved, acted)) < TINY:
        return Alignment(None, "every episode is the same", len(long), steps)
    return _judge(moved, acted, reach, np.random.default_rng(seed))


def _judge(
    motion: Sequence[Array], actions: Sequence[Array], reach: int, rng: np.random.Generator
) -> Alignment:
    """Fit the response, compare with the actions of other episodes, and resample episodes."""
    products = _multiply(motion, actions, reach)
    order = rng.permutation(len(actions))
    other = [actions[i] for i in np.roll(order, 1)[np.argsort(order)]]
    errors, left = _predict(products)
    swapped, left_swapped = _predict(_multiply(motion, other, reach))
    draws = rng.integers(0, len(actions), (RESAMPLED, len(actions)))
    response = _fit(*products.sum(np.arange(len(actions))))[0]
    drawn = _fit_draws(products, draws, response)
    shift = int(_beginning(response[None], SOMETHING)[0]) - reach
    # The last lag stands for all that follow, too, so nothing small is read from it.
    clear = _beginning(drawn, SOMETHING) == _beginning(drawn[:, :-1], NOTHING)
    agreement = float((clear & (_beginning(drawn, SOMETHING) - reach == shift)).mean())
    gains = _explained(errors, left, draws) - _explained(swapped, left_swapped, draws)
    r2 = float(1 - errors.sum() / left.sum())
    explains = r2 > 0 and float((gains > 0).mean()) >= AGREEMENT
    reason = _find_doubt(explains, shift == reach, agreement)
    return Alignment(
        shift=None if reason else shift,
        reason=reason,
        episodes=len(actions),
        steps=int(products.steps.sum()),
        lags=tuple(range(-reach, reach + 1)),
        response=tuple(float(v) for v in response),
        deviation=tuple(float(v) for v in drawn.std(axis=0)),
        agreement=agreement,
        r2=r2,
        r2_swapped=float(1 - swapped.sum() / left_swapped.sum()),
    )


def _find_doubt(explains: bool, too_far: bool, agreement: float) -> str:
    """Return why there is no verdict; "" if there is one."""
    if not explains:
        return "actions explain no more of the motion than those of another episode"
    if too_far:
        return "the motion seems to begin many steps before its action"
    if agreement < AGREEMENT:
        return "the beginning of the motion is not clear"
    return ""


def _explained(errors: Array, motion: Array, draws: NDArray[np.int64]) -> Array:
    """Return the explained share of the motion in each resampled set of episodes (B,)."""
    explained: Array = 1 - errors[draws].sum(axis=1) / motion[draws].sum(axis=1)
    return explained


def _choose_reach(actions: Sequence[NDArray[np.float32]]) -> int:
    """Return the most steps to look back and ahead, of which episodes keep most of theirs."""
    typical = float(np.median([len(each) for each in actions])) if actions else 0
    return next(reach for least, reach in REACHES if typical >= least)


def _standardise(arrays: Sequence[NDArray[np.float32]], clipped: float = np.inf) -> list[Array]:
    """Bring every column that changes to mean 0 and deviation 1; leave the others out."""
    everything = np.concatenate(arrays).astype(np.float64)
    mean, deviation = everything.mean(axis=0), everything.std(axis=0)
    keep = deviation > 1e-6 * (1 + np.abs(mean))
    scaled = (
        np.clip((each - mean)[:, keep] / deviation[keep], -clipped, clipped) for each in arrays
    )
    return list(scaled)


def _without_course(episodes: Sequence[Array]) -> list[Array]:
    """Subtract the mean over all episodes at each step.

    Episodes that follow the same course agree about what comes next, whatever the shift.
    """
    length = max(len(each) for each in episodes)
    total, count = np.zeros((length, episodes[0].shape[1])), np.zeros((length, 1))
    for each in episodes:
        total[: len(each)] += each
        count[: len(each)] += 1
    return [each - (total / count)[: len(each)] for each in episodes]


def _multiply(motion: Sequence[Array], actions: Sequence[Array], reach: int) -> _Products:
    """Sum the products of actions at all lags and motion over each episode."""
    lags, episodes = np.arange(-reach, reach + 1), len(motion)
    values, cells = actions[0].shape[1], motion[0].shape[1]
    squares = np.zeros((episodes, len(lags), values, len(lags), values))
    both = np.zeros((episodes, len(lags), values, cells))
    total, steps = np.zeros(episodes), np.zeros(episodes, np.int64)
    for e, (moved, acted) in enumerate(zip(motion, actions, strict=True)):
        inside = np.arange(reach, min(len(moved), len(acted)) - reach)
        for middle in np.array_split(inside, 1 + len(inside) // STEPS_AT_ONCE):
            lagged, target = acted[middle[:, None] + lags], moved[middle]  # (n, L, A), (n, D)
            squares[e] += np.tensordot(lagged, lagged, axes=(0, 0))
            both[e] += np.tensordot(lagged, target, axes=(0, 0))
            total[e] += (target**2).sum()
        steps[e] = len(inside)
    return _Products(squares, both, total, steps)


def _fit(squares: Array, both: Array) -> tuple[Array, Array]:
    """Return the response (L,), with a peak of 1, and the weights (A, D) that fit best.

    The search begins at every lag.
    """
    starts = np.eye(len(both))
    again = len(starts)
    response, weights, gain = _alternate(
        np.broadcast_to(squares, (again, *squares.shape)),
        np.broadcast_to(both, (again, *both.shape)),
        starts,
    )
    best = int(gain.argmax())
    return response[best], weights[best]


def _fit_draws(products: _Products, draws: NDArray[np.int64], start: Array) -> Array:
    """Return the response (B, L) of each of B resampled sets of episodes (B, E)."""
    found = []
    for part in np.array_split(draws, -(-len(draws) // DRAWS_AT_ONCE)):
        counts = np.stack([np.bincount(draw, minlength=draws.shape[1]) for draw in part])
        squares = np.tensordot(counts, products.actions, axes=1)
        both = np.tensordot(counts, products.both, axes=1)
        found.append(_alternate(squares, both, np.tile(start, (len(part), 1)))[0])
    return np.concatenate(found)


def _alternate(squares: Array, both: Array, response: Array) -> tuple[Array, Array, Array]:
    """Fit B responses and weights in turn, each by least squares while the other is held.

    Args:
        squares: (B, L, A, L, A) sums of products of actions at two lags.
        both: (B, L, A, D) sums of products of actions and motion.
        response: (B, L) to begin with.

    Returns:
        The responses (B, L), the weights (B, A, D), and how much of the motion they explain (B,).
    """
    ridge = np.eye(response.shape[1])
    for _ in range(ROUNDS):
        weights, _ = _fit_weights(squares, both, response)
        left = np.einsum("biajc,bac->bij", squares, weights @ weights.swapaxes(1, 2))
        right = np.einsum("biad,bad->bi", both, weights)
        scale = np.trace(left, axis1=1, axis2=2)[:, None, None] / len(ridge)
        response = np.linalg.solve(left + (1e-3 * scale + TINY) * ridge, right[..., None])[..., 0]
        peak = np.take_along_axis(response, np.abs(response).argmax(axis=1)[:, None], axis=1)
        response = response / np.where(np.abs(peak) > TINY, peak, 1)
    return response, *_fit_weights(squares, both, response)


def _fit_weights(squares: Array, both: Array, response: Array) -> tuple[Array, Array]:
    """Return the ridge regression of motion on the actions that pass the response, and its gain."""
    passed = np.einsum("bi,biajc->bajc", response, squares)
    left = np.einsum("bajc,bj->bac", passed, response)
    right = np.einsum("bi,biad->bad", response, both)
    weights = np.linalg.solve(left + PENALTY * np.eye(left.shape[1]), right)
    return weights, (right * weights).sum(axis=(1, 2))


def _predict(products: _Products) -> tuple[Array, Array]:
    """Return the squared error and the squared motion of each episode, left out of the fit (E,)."""
    count = len(products.steps)
    errors = np.zeros(count)
    for fold in range(FOLDS):
        inside = np.arange(count) % FOLDS == fold
        response, weights = _fit(*products.sum(np.flatnonzero(~inside)))
        passed = np.einsum("i,eiajc->eajc", response, products.actions[inside])
        left = np.einsum("eajc,j->eac", passed, response)
        right = np.einsum("i,eiad->ead", response, products.both[inside])
        # |y - x w|^2 = y'y - 2 (x'y) w + w (x'x) w
        errors[inside] = (
            products.motion[inside]
            - 2 * (right * weights).sum(axis=(1, 2))
            + np.einsum("eac,ac->e", left, weights @ weights.T)
        )
    return errors, products.motion


def _beginning(responses: Array, share: float) -> NDArray[np.intp]:
    """Return the last place of each response (B, L) that has a share of its peak: (B,)."""
    return responses.shape[1] - 1 - np.argmax(responses[:, ::-1] >= share, axis=1)
