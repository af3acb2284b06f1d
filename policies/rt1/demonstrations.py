"""Demonstrations as what RT-1 is trained on: windows of frames with the tokens of what was done."""

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from v2w_gym.configs.robots import RobotSpec
from v2w_gym.configs.text import to_path
from v2w_gym.policies.embeddings import Harvest
from v2w_gym.policies.instructions import InstructionTable, make_table, normalise
from v2w_gym.policies.rt1.tokenizer import ActionTokenizer
from v2w_gym.world_models.data.episodes import list_episodes, load_robot_episode
from v2w_gym.world_models.data.fractal import IMAGE, INSTRUCTION, fractal_actions
from v2w_gym.world_models.data.recorded_actions import NOTHING_AMISS, Misfits, fit_recorded, tell
from v2w_gym.world_models.data.rlds import Place, RldsDataset, open_rlds

log = logging.getLogger(__name__)

_SPLIT = re.compile(r"(?P<folder>.+):(?P<split>[^:/\[\]]+(\[[^/\[\]]*\])?)", re.DOTALL)

FrameReader: TypeAlias = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""Returns the frames (T, H, W, 3) at steps (T,) of one episode."""


@dataclass(frozen=True)
class Demonstration:
    """The L steps of one episode in which somebody acted; its last frame is not one of them.

    Attributes:
        frames: Reads frames; they may lie on disk.
        tokens: (L, A) what was to be done there.
        instructions: (L,) normalised text.
        misfits: What the actions lacked before they were fitted to the robot.
    """

    frames: FrameReader
    tokens: NDArray[np.int16]
    instructions: Sequence[str]
    misfits: Misfits = NOTHING_AMISS


@dataclass(frozen=True)
class Demonstrations:
    """N steps of many episodes, one after another.

    Attributes:
        frames: Reads the frames of each episode.
        starts: (episodes + 1,) place of each episode's first step; N at the end.
        tokens: (N, A) what was to be done there.
        vectors: (texts, E) float32, instructions.
        told: (N,) row of `vectors`.
    """

    frames: Sequence[FrameReader]
    starts: NDArray[np.int64]
    tokens: NDArray[np.int16]
    vectors: NDArray[np.float32]
    told: NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """A batch of B windows of T frames.

    Attributes:
        frames: (B, T, H, W, 3) uint8.
        told: (B, E) float32, the vector of each window's instruction.
        tokens: (B, T, A) int64.
        mask: (B, T) bool; False after the end of a short episode.
    """

    frames: Tensor
    told: Tensor
    tokens: Tensor
    mask: Tensor

    def to(self, device: str) -> "Windows":
        """Return the same windows on another device."""
        return Windows(*(getattr(self, field.name).to(device) for field in fields(self)))


def read_demonstrations(
    folders: Sequence[str], robot: RobotSpec, tokenizer: ActionTokenizer, found: Harvest | None
) -> list[Demonstration]:
    """Read every episode in `folders`; of an RLDS data set everything but the frames.

    Args:
        folders: Folders of recorded episodes, and folders of RLDS data sets, the latter with the
            split behind a colon unless it is "train".
        robot: Whose episodes they must be.
        tokenizer: Turns its actions into tokens.
        found: Gathers the embeddings that an RLDS data set stores; None where they do not matter.

    Raises:
        FileNotFoundError: A folder without episodes.
        ValueError: A corrupt episode, or one of another robot.
    """
    episodes: list[Demonstration] = []
    for name in folders:
        dataset = find_rlds(name)
        if dataset is not None:
            episodes += read_rlds(dataset, tokenizer, found)
        else:
            episodes += read_recorded(name, robot, tokenizer)
    if folders and not any(len(episode.tokens) for episode in episodes):
        raise ValueError(f"expected episodes in which somebody acted, found none in {folders}")
    tell(sum((episode.misfits for episode in episodes), NOTHING_AMISS), ", ".join(folders))
    return episodes


def split_folder(name: str) -> tuple[Path, str]:
    """Return the folder of a data set, and the split behind a colon; "" if none is named."""
    whole = to_path(name)
    match = _SPLIT.fullmatch(name)
    if whole.exists() or match is None:
        return whole, ""
    return to_path(match["folder"]), match["split"]


def find_rlds(name: str) -> RldsDataset | None:
    """Return the RLDS data set in a folder, whose split may follow a colon; None if none is there.

    Raises:
        FileNotFoundError: A folder or file that is not there.
        ValueError: Unknown split.
    """
    folder, split = split_folder(name)
    if split or (folder / "features.json").is_file():
        return open_rlds(folder, split or "train")
    return None


def list_demonstrations(folders: Sequence[str]) -> list[Path]:
    """Return the files that `read_demonstrations` would read, in their order.

    Raises:
        FileNotFoundError: A folder without episodes.
        ValueError: Unknown split.
    """
    paths: list[Path] = []
    for name in folders:
        dataset = find_rlds(name)
        paths += [shard.path for shard in dataset.shards] if dataset else list_episodes([name])
    return paths


def read_recorded(
    folder: str, robot: RobotSpec, tokenizer: ActionTokenizer
) -> Iterator[Demonstration]:
    """Yield recorded episodes, labelled with what their expert would have done."""
    for path in tqdm(list_episodes([folder]), desc="reading", unit="episode"):
        episode = load_robot_episode(path, robot)
        tokens, misfits = _encode(tokenizer, episode.expert_actions, str(path))
        texts = [normalise(episode.instruction)] * len(tokens)
        yield Demonstration(episode.frames.__getitem__, tokens, texts, misfits)


def read_rlds(
    dataset: RldsDataset, tokenizer: ActionTokenizer, found: Harvest | None
) -> Iterator[Demonstration]:
    """Yield the episodes of a data set whose features are named as in fractal20220817_data.

    The action of a step that is marked as the last one does not count (RLDS). An episode in which
    the robot was told nothing is left out.
    """
    untold = 0
    for episode in tqdm(dataset, desc="reading", unit="episode"):
        acted = int((~episode.step("is_last")).sum())
        actions = fractal_actions(episode)[:acted]
        tokens, misfits = _encode(tokenizer, actions, episode.origin)
        told = episode.text(INSTRUCTION)[:acted]
        plain = {text: normalise(text) for text in dict.fromkeys(told)}
        if not all(plain.values()):
            untold += 1
            continue
        if found is not None:
            found.add(episode)
        texts = [plain[text] for text in told]
        yield Demonstration(partial(_read_frames, dataset, episode.place), tokens, texts, misfits)
    if untold:
        log.warning("%d of %d episodes lack an instruction: left out", untold, len(dataset))


def _read_frames(dataset: RldsDataset, place: Place, steps: NDArray[np.int64]) -> NDArray[np.uint8]:
    return dataset.read_at(place).frames(IMAGE, steps.tolist())


def _encode(
    tokenizer: ActionTokenizer, actions: NDArray[np.float32], origin: str
) -> tuple[NDArray[np.int16], Misfits]:
    if not np.isfinite(actions).all():
        raise ValueError(f"expected finite actions in {origin}, found NaN or infinity")
    fitted, misfits = fit_recorded(actions, tokenizer.robot, origin)
    return tokenizer.encode(fitted).astype(np.int16), misfits


def known_instructions(
    episodes: Sequence[Demonstration], found: Harvest, size: int
) -> InstructionTable:
    """Return all instructions in `episodes` with the embeddings that were gathered.

    One without an embedding gets a vector of `size` values that only tells it apart; see `embed`.
    """
    texts = tuple(sorted({text for episode in episodes for text in episode.instructions}))
    apart = make_table(texts, size)
    if not found.spellings:
        return apart
    stored = found.table()
    sources = [(stored if text in stored.texts else apart, text) for text in texts]
    return InstructionTable(texts, np.stack([t.vectors[t.row(text)] for t, text in sources]))


def join(episodes: Sequence[Demonstration], table: InstructionTable) -> Demonstrations:
    """Lay episodes one after another.

    Raises:
        ValueError: No step at all, or an instruction that is not in the table.
    """
    texts = [text for episode in episodes for text in episode.instructions]
    if not texts:
        raise ValueError("expected episodes in which somebody acted, found none")
    row = {text: table.row(text) for text in dict.fromkeys(texts)}
    return Demonstrations(
        frames=[episode.frames for episode in episodes],
        starts=np.cumsum([0, *(len(episode.tokens) for episode in episodes)]),
        tokens=np.concatenate([episode.tokens for episode in episodes]),
        vectors=table.vectors,
        told=np.array([row[text] for text in texts]),
    )


def sample_windows(
    data: Demonstrations, size: int, history: int, rng: np.random.Generator
) -> Windows:
    """Draw `size` windows as a policy's memory holds them at a random step of an episode.

    Until an episode is `history` frames old the memory starts with its first frame; so do the
    windows drawn there, which run on to later frames. A window that is longer than its episode
    repeats the last frame, masked.

    Args:
        data: The episodes.
        size: Number of windows (B).
        history: Frames per window (T).
        rng: Source of all choices.
    """
    step = rng.integers(len(data.tokens), size=size)
    episode = np.searchsorted(data.starts, step, side="right") - 1
    first, last = data.starts[episode], data.starts[episode + 1] - 1
    wanted = np.maximum(first, step - history + 1)[:, None] + np.arange(history)  # (B, T)
    index = np.minimum(wanted, last[:, None])
    places = index - first[:, None]
    frames = [data.frames[e](row) for e, row in zip(episode, places, strict=True)]
    return Windows(
        frames=torch.from_numpy(np.stack(frames)),
        told=torch.from_numpy(data.vectors[data.told[step]]),
        tokens=torch.from_numpy(data.tokens[index].astype(np.int64)),
        mask=torch.from_numpy(wanted == index),
    )
