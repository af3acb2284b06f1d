"""Training data of RT-1: windows of frames with the tokens of the demonstrated actions."""

import logging
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
from v2w_gym.policies.embeddings import Harvest
from v2w_gym.policies.instructions import InstructionTable, make_table, normalise
from v2w_gym.policies.rt1.tokenizer import ActionTokenizer
from v2w_gym.world_models.data.labelled import list_labelled, load_robot_labelled
from v2w_gym.world_models.data.recorded_actions import (
    NO_MISFITS,
    Misfits,
    execute_recorded,
    warn_of,
)
from v2w_gym.world_models.data.sources.base import Wanted
from v2w_gym.world_models.data.sources.opening import split_path
from v2w_gym.world_models.data.sources.rlds import RldsSource, open_source, recognises
from v2w_gym.world_models.data.sources.rlds_records import Place

log = logging.getLogger(__name__)

FrameReader: TypeAlias = Callable[[NDArray[np.int64]], NDArray[np.uint8]]
"""Steps (T,) of one episode -> frames (T, H, W, 3)."""


@dataclass(frozen=True)
class Demonstration:
    """The L steps of one episode that have an action; the last frame has none.

    Attributes:
        frames: Reads frames, from memory or disk.
        tokens: (L, A) action tokens.
        instructions: (L,) normalised text.
        misfits: Actions that were clipped or completed to fit the robot.
    """

    frames: FrameReader
    tokens: NDArray[np.int16]
    instructions: Sequence[str]
    misfits: Misfits = NO_MISFITS


@dataclass(frozen=True)
class Demonstrations:
    """N steps of many episodes, one after another.

    Attributes:
        frames: Reads the frames of each episode.
        starts: (episodes + 1,) index of each episode's first step; N at the end.
        tokens: (N, A) action tokens.
        vectors: (texts, E) float32, embeddings of instructions.
        instruction_rows: (N,) each step's instruction, as a row of `vectors`.
    """

    frames: Sequence[FrameReader]
    starts: NDArray[np.int64]
    tokens: NDArray[np.int16]
    vectors: NDArray[np.float32]
    instruction_rows: NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """A batch of B windows of T frames.

    Attributes:
        frames: (B, T, H, W, 3) uint8.
        instructions: (B, E) float32, the vector of each window's instruction.
        tokens: (B, T, A) int64.
        mask: (B, T) bool; False after the end of a short episode.
    """

    frames: Tensor
    instructions: Tensor
    tokens: Tensor
    mask: Tensor

    def to(self, device: str) -> "Windows":
        """Return the same windows on another device."""
        return Windows(*(getattr(self, field.name).to(device) for field in fields(self)))


def read_demonstrations(
    folders: Sequence[str], robot: RobotSpec, tokenizer: ActionTokenizer, found: Harvest | None
) -> list[Demonstration]:
    """Read every episode in `folders`; frames of RLDS data sets are read later.

    Args:
        folders: Folders of recorded episodes or of RLDS data sets. The split of a data set follows
            a colon; the default is "train".
        robot: The robot of the episodes.
        tokenizer: Turns its actions into tokens.
        found: Collects the embeddings in RLDS data sets; None to ignore them.

    Raises:
        FileNotFoundError: A folder has no episodes.
        ValueError: An episode is corrupt or of another robot.
    """
    episodes: list[Demonstration] = []
    for name in folders:
        source = find_rlds(name)
        if source is not None:
            episodes += read_rlds(source, tokenizer, found)
        else:
            episodes += read_recorded(name, robot, tokenizer)
    if folders and not any(len(episode.tokens) for episode in episodes):
        raise ValueError(f"expected episodes with at least one action, found none in {folders}")
    warn_of(sum((episode.misfits for episode in episodes), NO_MISFITS), ", ".join(folders))
    return episodes


def find_rlds(name: str) -> RldsSource | None:
    """Return the RLDS data set in a folder, whose split may follow a colon; None if there is none.

    Raises:
        FileNotFoundError: No such folder or file.
        ValueError: Unknown split or data set.
    """
    folder, split = split_path(name)
    if split or recognises(folder):
        return open_source(folder, Wanted(split))
    return None


def list_demonstrations(folders: Sequence[str]) -> list[Path]:
    """Return the files that `read_demonstrations` reads, in order.

    Raises:
        FileNotFoundError: A folder has no episodes.
        ValueError: Unknown split.
    """
    paths: list[Path] = []
    for name in folders:
        source = find_rlds(name)
        paths += source.files if source else list_labelled([name])
    return paths


def read_recorded(
    folder: str, robot: RobotSpec, tokenizer: ActionTokenizer
) -> Iterator[Demonstration]:
    """Yield recorded episodes, with the expert's actions as labels."""
    for path in tqdm(list_labelled([folder]), desc="reading", unit="episode"):
        episode = load_robot_labelled(path, robot)
        tokens, misfits = _encode(tokenizer, episode.expert_actions, str(path))
        texts = [normalise(episode.instruction)] * len(tokens)
        yield Demonstration(episode.frames.__getitem__, tokens, texts, misfits)


def read_rlds(
    source: RldsSource, tokenizer: ActionTokenizer, found: Harvest | None
) -> Iterator[Demonstration]:
    """Yield the demonstrations of a data set.

    The action of the last step, which has no meaning in RLDS, is dropped. Episodes without an
    instruction are left out.

    Raises:
        ValueError: An episode is corrupt, or its action fields are not those of the robot.
    """
    robot = tokenizer.robot
    if list(source.fields.actions) != [field.name for field in robot.fields]:
        raise ValueError(
            f"expected the action fields of robot {robot.name!r} ({', '.join(robot.slices)}) in "
            f"{source.name}, found {', '.join(source.fields.actions)}; train on data of the robot"
        )
    without = 0
    for record in tqdm(source.dataset, desc="reading", unit="episode"):
        acted = int((~record.step("is_last")).sum())
        actions = source.actions(record)[0][:acted]
        tokens, misfits = _encode(tokenizer, actions, record.origin)
        instructions = record.text(source.fields.instruction)[:acted]
        plain = {text: normalise(text) for text in dict.fromkeys(instructions)}
        if not all(plain.values()):
            without += 1
            continue
        if found is not None:
            found.add(record)
        texts = [plain[text] for text in instructions]
        yield Demonstration(partial(_read_frames, source, record.place), tokens, texts, misfits)
    if without:
        log.warning("%d of %d episodes lack an instruction: left out", without, len(source))


def _read_frames(source: RldsSource, place: Place, steps: NDArray[np.int64]) -> NDArray[np.uint8]:
    return source.dataset.read_at(place).frames(source.fields.frames, steps.tolist())


def _encode(
    tokenizer: ActionTokenizer, actions: NDArray[np.float32], origin: str
) -> tuple[NDArray[np.int16], Misfits]:
    if not np.isfinite(actions).all():
        raise ValueError(f"expected finite actions in {origin}, found NaN or infinity")
    fitted, misfits = execute_recorded(actions, tokenizer.robot, origin)
    return tokenizer.encode(fitted).astype(np.int16), misfits


def known_instructions(
    episodes: Sequence[Demonstration], found: Harvest, size: int
) -> InstructionTable:
    """Return all instructions in `episodes`, with the embeddings that were collected.

    An instruction without an embedding gets a pseudo-random vector of `size` values; see `embed`.
    """
    texts = tuple(sorted({text for episode in episodes for text in episode.instructions}))
    apart = make_table(texts, size)
    if not found.spellings:
        return apart
    stored = found.table()
    sources = [(stored if text in stored.texts else apart, text) for text in texts]
    return InstructionTable(texts, np.stack([t.vectors[t.row(text)] for t, text in sources]))


def join(episodes: Sequence[Demonstration], table: InstructionTable) -> Demonstrations:
    """Join episodes into one set of steps.

    Raises:
        ValueError: The episodes have no step, or an instruction is not in the table.
    """
    texts = [text for episode in episodes for text in episode.instructions]
    if not texts:
        raise ValueError("expected episodes with at least one action, found none")
    row = {text: table.row(text) for text in dict.fromkeys(texts)}
    return Demonstrations(
        frames=[episode.frames for episode in episodes],
        starts=np.cumsum([0, *(len(episode.tokens) for episode in episodes)]),
        tokens=np.concatenate([episode.tokens for episode in episodes]),
        vectors=table.vectors,
        instruction_rows=np.array([row[text] for text in texts]),
    )


def sample_windows(
    data: Demonstrations, size: int, history: int, rng: np.random.Generator
) -> Windows:
    """Draw `size` windows of `history` frames that end at random steps.

    Near the start of an episode, a window begins with the first frame, and so includes later
    frames than the drawn step. A window that is longer than its episode repeats the last frame,
    with mask False.

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
        instructions=torch.from_numpy(data.vectors[data.instruction_rows[step]]),
        tokens=torch.from_numpy(data.tokens[index].astype(np.int64)),
        mask=torch.from_numpy(wanted == index),
    )
