"""Replay recorded actions in a world model, and compare imagined frames with recorded ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from v2w_gym.evaluation.compare.statistics import wilson
from v2w_gym.evaluation.imagine.replay import replay
from v2w_gym.judges.base import Judge, MeasuringJudge, Verdicts
from v2w_gym.world_models.base import WorldModel
from v2w_gym.world_models.data.labelled import LabelledEpisode
from v2w_gym.world_models.state import FrameNoise

HORIZONS = (1, 5, 10, 20)
"""Steps after the first frame at which pixels are compared."""


@dataclass(frozen=True)
class ReadingError:
    """How well one quantity can be read in imagined frames.

    Attributes:
        quantity: What the judge reads.
        unit: Unit of the two errors.
        error: Mean absolute error of the readings of imagined frames.
        error_on_real: The same for recorded frames.
        change_correlation: Correlation over episodes of the read change, from first to last
            imagined frame, with the recorded change.
    """

    quantity: str
    unit: str
    error: float
    error_on_real: float
    change_correlation: float


@dataclass(frozen=True)
class OpenLoop:
    """How far one task's imagined episodes can be trusted; n episodes.

    Attributes:
        task: Name of the task.
        n: Episodes replayed.
        solved: Episodes solved in reality.
        agreed: Episodes in which the verdict on imagined frames equals the real outcome.
        missed: Solved in reality, judged unsolved in imagination.
        invented: Unsolved in reality, judged solved in imagination.
        abstained: Episodes whose imagined frames the judge could not read; none of them agrees.
        agreed_on_real: The same as `agreed` for recorded frames: the judge's own errors.
        reading: Errors of the quantity that the judge reads; None if it reads none.
        psnr: Horizon in steps -> mean PSNR of the world model, in dB.
        psnr_copy: The same for the baseline that repeats the first frame.
    """

    task: str
    n: int
    solved: int
    agreed: int
    missed: int
    invented: int
    abstained: int
    agreed_on_real: int
    reading: ReadingError | None
    psnr: dict[int, float]
    psnr_copy: dict[int, float]

    @property
    def agreement(self) -> float:
        """Share of episodes that agree."""
        return self.agreed / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the agreement."""
        return wilson(self.agreed, self.n)

    @property
    def majority(self) -> float:
        """The agreement of always guessing the more frequent outcome."""
        return max(self.solved, self.n - self.solved) / self.n


def imagine(
    model: WorldModel, episodes: Sequence[LabelledEpisode], batch_size: int
) -> NDArray[np.uint8]:
    """Replay each episode's actions from its first frame.

    Args:
        model: The world model.
        episodes: N episodes of equal length T; each episode's seed also seeds its noise.
        batch_size: Episodes that run together.

    Returns:
        Frames (N, T, H, W, 3); the first frame of each episode is the recorded one.
    """
    batches = [episodes[i : i + batch_size] for i in range(0, len(episodes), batch_size)]
    return np.concatenate([_imagine_batch(model, b) for b in tqdm(batches, unit="batch")])


def measure_open_loop(
    episodes: Sequence[LabelledEpisode], imagined: NDArray[np.uint8], judge: Judge
) -> OpenLoop:
    """Compare imagined frames (N, T, H, W, 3) with the N recorded episodes of one task."""
    task = episodes[0].task
    recorded = np.stack([episode.frames for episode in episodes])
    truth = np.array([(e.success[1:] & e.success[:-1]).any() for e in episodes])
    verdicts, on_real = judge.verdicts(imagined, task), judge.verdicts(recorded, task)
    agreed = _agrees(verdicts, truth)
    decided = ~verdicts.abstained
    return OpenLoop(
        task=task,
        n=len(episodes),
        solved=int(truth.sum()),
        agreed=int(agreed.sum()),
        missed=int((truth & ~verdicts.success & decided).sum()),
        invented=int((~truth & verdicts.success & decided).sum()),
        abstained=int(verdicts.abstained.sum()),
        agreed_on_real=int(_agrees(on_real, truth).sum()),
        reading=_reading_error(episodes, imagined, recorded, judge),
        psnr=_psnr(imagined, recorded),
        psnr_copy=_psnr(np.broadcast_to(recorded[:, :1], recorded.shape), recorded),
    )


def _imagine_batch(model: WorldModel, episodes: Sequence[LabelledEpisode]) -> NDArray[np.uint8]:
    first = np.stack([episode.frames[:1] for episode in episodes])
    actions = np.stack([episode.actions for episode in episodes])
    zeros = (0,) * len(episodes)
    noise = FrameNoise(tuple(episode.seed for episode in episodes), zeros, frames=zeros)
    states = replay(model, first, actions[:, :0], actions, noise)
    next(states)  # the first frame is the recorded one
    return np.stack([first[:, 0], *map(model.render, states)], axis=1)


def _agrees(verdicts: Verdicts, truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return ~verdicts.abstained & (verdicts.success == truth)


def _reading_error(
    episodes: Sequence[LabelledEpisode],
    imagined: NDArray[np.uint8],
    recorded: NDArray[np.uint8],
    judge: Judge,
) -> ReadingError | None:
    """Compare a judge's readings of N episodes with the values recorded beside their frames."""
    if not isinstance(judge, MeasuringJudge):
        return None
    quantity = judge.quantity
    truth = np.stack([episode.state[quantity.name] for episode in episodes]).astype(np.float64)
    read, on_real = judge.reading(imagined), judge.reading(recorded)  # (N, T)
    return ReadingError(
        quantity=quantity.name,
        unit=quantity.unit,
        error=quantity.scale * float(np.abs(read - truth).mean()),
        error_on_real=quantity.scale * float(np.abs(on_real - truth).mean()),
        change_correlation=_correlation(read[:, -1] - read[:, 0], truth[:, -1] - truth[:, 0]),
    )


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    if a.std() == 0 or b.std() == 0:
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def _psnr(imagined: NDArray[np.uint8], recorded: NDArray[np.uint8]) -> dict[int, float]:
    horizons = [h for h in HORIZONS if h < recorded.shape[1]]
    result = {}
    for h in horizons:
        error = (imagined[:, h].astype(np.float32) - recorded[:, h]) / 255
        result[h] = float((-10 * np.log10((error**2).mean((1, 2, 3)) + 1e-10)).mean())
    return result
