"""Load the data of a training run, and draw the batch of each step."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from v2w_gym.configs.robots import RobotSpec
from v2w_gym.configs.rt1 import RT1Config
from v2w_gym.configs.sources import FRACTAL
from v2w_gym.configs.train import TrainPolicyConfig
from v2w_gym.policies.embeddings import EMBEDDING, Harvest
from v2w_gym.policies.instructions import InstructionTable, load_table
from v2w_gym.policies.rt1.augmentation import pad_crop, shift
from v2w_gym.policies.rt1.demonstrations import (
    Demonstrations,
    Windows,
    join,
    known_instructions,
    read_demonstrations,
    sample_windows,
)
from v2w_gym.policies.rt1.tokenizer import ActionTokenizer

SAMPLING, DROPOUT = 0, 1
"""Keys of a step's two random streams."""
SAME_VECTOR = 1e-5
"""Largest difference between the values of one instruction's embeddings."""


def read_data(
    cfg: TrainPolicyConfig, sizes: RT1Config, robot: RobotSpec, tokenizer: ActionTokenizer
) -> tuple[Demonstrations, Demonstrations | None, InstructionTable]:
    """Return the training data, the held-out data, and the policy's instructions.

    Raises:
        FileNotFoundError: No episodes.
        ValueError: Episodes are corrupt, an instruction has no vector, or the sizes of frames or
            vectors do not fit the network.
    """
    found = Harvest(FRACTAL.instruction, EMBEDDING, SAME_VECTOR)
    gathers = found if cfg.instructions is None else None
    episodes = read_demonstrations(cfg.episodes, robot, tokenizer, gathers)
    others = read_demonstrations(cfg.held_out, robot, tokenizer, gathers)
    if cfg.instructions is None:
        table = known_instructions(episodes + others, found, sizes.instruction_size)
    else:
        table = load_table(Path(cfg.instructions))
    if table.vectors.shape[1] != sizes.instruction_size:
        raise ValueError(
            f"expected instruction vectors of {sizes.instruction_size} values, found "
            f"{table.vectors.shape[1]}; set network.instruction_size={table.vectors.shape[1]}"
        )
    data = join(episodes, table)
    height, width = data.frames[0](np.zeros(1, np.int64)).shape[1:3]
    if (height, width) != sizes.image_size:
        raise ValueError(
            f"expected frames of {sizes.image_size} pixels, found {(height, width)}; set "
            f"network.image_size=[{height},{width}]"
        )
    return data, join(others, table) if others else None, table


def draw_batch(
    data: Demonstrations, cfg: TrainPolicyConfig, sizes: RT1Config, step: int
) -> Windows:
    """Return the batch of a step, with augmented frames."""
    rng = _stream(cfg, step, SAMPLING)
    windows = sample_windows(data, cfg.batch_size, sizes.history, rng)
    frames = windows.frames.numpy()
    if cfg.augmentation == "shift":
        frames = shift(frames, cfg.shift, rng)
    if cfg.augmentation == "pad_crop":
        frames = pad_crop(frames, rng)
    return replace(windows, frames=torch.from_numpy(frames))


def read_ahead(
    read: Callable[[int], Windows], steps: Iterable[int], threads: int
) -> Iterator[Windows]:
    """Yield `read(step)` for each step, in order; each thread reads at most two steps ahead."""
    if not threads:
        yield from map(read, steps)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Windows]] = deque()
        try:
            for step in steps:
                waiting.append(pool.submit(read, step))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def dropout_seed(cfg: TrainPolicyConfig, step: int) -> int:
    """Return the seed of torch's generator in a step."""
    return int(_stream(cfg, step, DROPOUT).integers(2**63))


def _stream(cfg: TrainPolicyConfig, step: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([cfg.seed, step, purpose])
