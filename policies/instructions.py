"""Tables of instruction embeddings, the same on every machine."""

import difflib
import hashlib
import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from v2w_gym.world_models.checkpoint import check_kind, load_checkpoint, save_checkpoint

KIND = "instructions"
UNIT_TOLERANCE = 1e-3
"""Largest difference of an embedding's length from 1."""


@dataclass(frozen=True)
class InstructionTable:
    """The instructions that a policy knows, with their embeddings.

    Attributes:
        texts: Normalised instructions, all different.
        vectors: (len(texts), E) float32, unit length.

    Raises:
        ValueError: Not one vector per text, or a repeated text.
    """

    texts: tuple[str, ...]
    vectors: NDArray[np.float32]

    def __post_init__(self) -> None:
        distinct = len(set(self.texts))
        if self.vectors.ndim != 2 or not len(self.texts) == len(self.vectors) == distinct:
            raise ValueError(
                f"expected one vector for each of {len(self.texts)} instructions "
                f"({distinct} distinct), found vectors of shape {self.vectors.shape}"
            )

    def row(self, instruction: str) -> int:
        """Return the row of an instruction; case, punctuation and spacing do not matter.

        Raises:
            ValueError: Unknown instruction; the message suggests the nearest known ones.
        """
        text = normalise(instruction)
        if text in self._rows:
            return self._rows[text]
        if not self.texts:
            raise ValueError(
                "expected a policy with instructions, found one without any; make a table with "
                "`v2w embed`, and name it with instructions=... or, in a policy file, "
                "`instructions: ...`"
            )
        near = difflib.get_close_matches(text, self.texts, n=3, cutoff=0)
        raise ValueError(
            f"expected one of the {len(self.texts)} instructions this policy knows, found "
            f"{instruction!r}; did you mean {' or '.join(map(repr, near))}? A table of `v2w embed` "
            "adds instructions to a policy that takes sentence embeddings"
        )

    @property
    def fingerprint(self) -> str:
        """The sha256 of texts and vectors."""
        digest = hashlib.sha256(json.dumps(self.texts).encode())
        digest.update(np.ascontiguousarray(self.vectors).tobytes())
        return digest.hexdigest()

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return {text: row for row, text in enumerate(self.texts)}


def save_table(path: Path, table: InstructionTable, source: Mapping[str, Any]) -> None:
    """Write a table (.safetensors) and its card.

    Args:
        path: File of the vectors; the card is written beside it.
        table: The table.
        source: JSON values on the vectors' provenance.
    """
    card = {
        "kind": KIND,
        "size": table.vectors.shape[1],
        "source": dict(source),
        "texts": list(table.texts),
    }
    save_checkpoint(path, {"vectors": torch.from_numpy(table.vectors)}, card)


def load_table(path: Path) -> InstructionTable:
    """Read a table.

    Raises:
        FileNotFoundError: No table at `path`.
        ValueError: A damaged file, another kind of checkpoint, or not one vector per text.
    """
    tensors, card = load_checkpoint(path, finite=False)  # lengths are checked below
    check_kind(path, card, KIND)
    try:
        table = InstructionTable(tuple(card["texts"]), tensors["vectors"].float().numpy())
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"expected an instruction table in {path}, found {error}") from error
    lengths = np.linalg.norm(table.vectors, axis=1)
    if not (abs(lengths - 1) <= UNIT_TOLERANCE).all():  # NaN too
        raise ValueError(
            f"expected vectors of length 1 in {path}, found lengths from {lengths.min():g} to "
            f"{lengths.max():g}; make the table again with `v2w embed`"
        )
    return table


def make_table(instructions: Sequence[str], size: int) -> InstructionTable:
    """Return the table of all distinct `instructions`, sorted, with vectors of `size` values."""
    texts = tuple(sorted({normalise(text) for text in instructions}))
    return InstructionTable(texts, np.stack([embed(text, size) for text in texts]))


def embed(text: str, size: int) -> NDArray[np.float32]:
    """Return a pseudo-random unit vector (size,) that depends on the text alone.

    It replaces RT-1's Universal Sentence Encoder. With few instructions, a policy only needs
    different vectors for different texts.
    """
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    vector = np.random.default_rng(seed).standard_normal(size)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def normalise(instruction: str) -> str:
    """Return the instruction in lower case, without punctuation, with single spaces."""
    plain = instruction.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(plain.split())
