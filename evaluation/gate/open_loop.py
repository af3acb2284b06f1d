"""Replay recorded actions in a world model and hold what it imagines against what happened."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from v2w_gym.evaluation.compare.statistics import wilson
from v2w_gym.evaluation.success import DrawerJudge, Verdicts
from v2w_gym.world_models.base import FrameNoise, WorldModel
from v2w_gym.world_models.data.episodes import Episode

GATE = Path(__file__).parents[1] / "reference" / "gate" / "gate.json"
"""What `v2w gate` found for the bundled world model."""
HORIZONS = (1, 5, 10, 20)
"""Steps after the first frame at which pixels are compared."""


@dataclass(frozen=True)
class OpenLoop:
    """How far one task's imagined episodes can be trusted; n episodes.

    Attributes:
        task: Name of the task.
        n: Episodes replayed.
        solved: Episodes that were really solved.
        agreed: Episodes whose imagined success was judged as it really was.
        missed: Really solved, judged unsolved in imagination.
        invented: Really unsolved, judged solved in imagination.
        abstained: Episodes whose imagined frames the judge could not read; they never agree.
        agreed_on_real: The same judge's agreement on the recorded frames, its own ceiling.
        opening_error_cm: Mean distance of the opening read in imagined frames from the real one.
        opening_error_on_real_cm: The same for the recorded frames.
        displacement_correlation: Correlation over episodes of how far the drawer moved.
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
    opening_error_cm: float
    opening_error_on_real_cm: float
    displacement_correlation: float
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


def imagine(model: WorldModel, episodes: Sequence[Episode], batch_size: int) -> NDArray[np.uint8]:
    """Replay each episode's actions from its first frame.

    Args:
        model: The world model.
        episodes: N episodes of equal length T; an episode's seed is its noise's seed.
        batch_size: Episodes that run together.

    Returns:
        Frames (N, T, H, W, 3), the first of each being the recorded one.
    """
    batches = [episodes[i : i + batch_size] for i in range(0, len(episodes), batch_size)]
    return np.concatenate([_imagine_batch(model, b) for b in tqdm(batches, unit="batch")])


def measure_open_loop(
    episodes: Sequence[Episode], imagined: NDArray[np.uint8], judge: DrawerJudge
) -> OpenLoop:
    """Compare imagined frames (N, T, H, W, 3) with the N recorded episodes of one task."""
    task = episodes[0].task
    recorded = np.stack([episode.frames for episode in episodes])
    truth = np.array([(e.success[1:] & e.success[:-1]).any() for e in episodes])
    opening = np.stack([episode.state["opening"] for episode in episodes]).astype(np.float64)
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
        opening_error_cm=100 * float(np.abs(verdicts.opening - opening).mean()),
        opening_error_on_real_cm=100 * float(np.abs(on_real.opening - opening).mean()),
        displacement_correlation=_correlation(
            verdicts.opening[:, -1] - verdicts.opening[:, 0], opening[:, -1] - opening[:, 0]
        ),
        psnr=_psnr(imagined, recorded),
        psnr_copy=_psnr(np.broadcast_to(recorded[:, :1], recorded.shape), recorded),
    )


def committed_gate(model: str, judge: str) -> Mapping[str, Any]:
    """Return what the committed gate found, as JSON values of a `GateResult`.

    Args:
        model: Fingerprint of the world model.
        judge: Name of the judge.

    Returns:
        Empty if the gate measured another pair.
    """
    gate: dict[str, Any] = json.loads(GATE.read_text()) if GATE.is_file() else {}
    return gate if (gate.get("model"), gate.get("judge")) == (model, judge) else {}


def _imagine_batch(model: WorldModel, episodes: Sequence[Episode]) -> NDArray[np.uint8]:
    first = np.stack([episode.frames[:1] for episode in episodes])
    actions = np.stack([episode.actions for episode in episodes])
    seeds = tuple(episode.seed for episode in episodes)
    state = model.start(first, actions[:, :0], _noise(seeds, 0))
    frames = [first[:, 0]]
    for t in range(actions.shape[1]):
        state = model.step(state, actions[:, t], _noise(seeds, t + 1))
        frames.append(model.render(state))
    return np.stack(frames, axis=1)


def _noise(seeds: tuple[int, ...], frame: int) -> FrameNoise:
    return FrameNoise(seeds, (0,) * len(seeds), (frame,) * len(seeds))


def _agrees(verdicts: Verdicts, truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return ~verdicts.abstained & (verdicts.success == truth)


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
