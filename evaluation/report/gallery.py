"""Choose rollouts for the report, and turn their videos into strips of frames."""

import base64
import io
import logging
import math
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from v2w_gym.evaluation.compare.comparison import Comparison
from v2w_gym.evaluation.compare.rates import start_means
from v2w_gym.evaluation.records.video import read_video

log = logging.getLogger(__name__)

FRAMES = 8
GAP = 2
"""White pixels between two frames of a strip."""
HEIGHT = 128
"""Strips of larger frames are shrunk to this many pixels."""


@dataclass(frozen=True)
class Strip:
    """One rollout on the page.

    Attributes:
        task: Name of its task.
        policy: Name of its policy.
        start: Index of its start.
        seed: Seed of its noise.
        steps: Number of actions taken.
        success: The judge's verdict.
        real: Success rate of this policy's trials from this start; NaN without trials.
        link: URL of the video, relative to the page.
        image: The strip as a `data:` URL; empty if the video is missing or damaged.
    """

    task: str
    policy: str
    start: str
    seed: int
    steps: int
    success: bool
    real: float
    link: str
    image: str

    @property
    def disagrees(self) -> bool:
        """Whether every trial from this start had the opposite outcome."""
        return self.real == 1 - self.success


def make_gallery(
    run_folder: Path, comparison: Comparison, rows: pd.DataFrame, real: pd.DataFrame
) -> list[Strip]:
    """Return up to one success and one failure per policy and task.

    Rollouts that contradict a trial come first, then those from the first start. Rollouts on which
    the judge abstained are not shown.
    """
    outcomes = {
        (task, policy, start): float(rate)
        for (task, policy), rates in start_means(real).items()
        for start, rate in rates.items()
    }
    judged = rows[rows["success"].notna()]
    keys = zip(judged["task"], judged["policy"], judged["start"].astype(str), strict=True)
    judged = judged.assign(real=[outcomes.get(key, math.nan) for key in keys])
    strips = []
    for task in comparison.simulated_tasks:
        for policy in reversed(comparison.simulated_policies):
            mine = judged[(judged["task"] == task) & (judged["policy"] == policy)]
            for success in (True, False):
                same = mine[mine["success"].astype(bool) == success]
                if len(same):
                    contradiction = (same["real"] - float(success)).abs().fillna(-1)
                    order = same.assign(contradiction=-contradiction)
                    row = order.sort_values(["contradiction", "start", "seed"]).iloc[0]
                    strips.append(_make_strip(run_folder, row, success))
    return strips


def _make_strip(run_folder: Path, row: "pd.Series[object]", success: bool) -> Strip:
    try:
        image = draw_strip(read_video(run_folder / str(row["video"])))
    except (FileNotFoundError, ValueError) as error:
        log.warning("no strip of %s: %s", row["video"], error)
        image = ""
    return Strip(
        task=str(row["task"]),
        policy=str(row["policy"]),
        start=str(row["start"]),
        seed=int(str(row["seed"])),
        steps=int(str(row["steps"])),
        success=success,
        real=float(str(row["real"])),
        link=quote(str(row["video"])),
        image=image,
    )


def draw_strip(frames: NDArray[np.uint8]) -> str:
    """Return `FRAMES` frames of a video (T, H, W, 3) side by side, as a `data:` URL."""
    chosen = np.linspace(0, len(frames) - 1, min(FRAMES, len(frames))).round().astype(int)
    gaps = ((0, 0), (0, 0), (0, GAP), (0, 0))
    spaced = np.pad(frames[chosen], gaps, constant_values=255)
    strip = Image.fromarray(np.concatenate(list(spaced), axis=1)[:, :-GAP])
    if strip.height > HEIGHT:
        strip = strip.resize((strip.width * HEIGHT // strip.height, HEIGHT))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=92, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
