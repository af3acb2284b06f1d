"""Instructions as fixed vectors: the same words give the same vector on every machine."""

import hashlib
import string
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from configs.lookup import lookup


@dataclass(frozen=True)
class InstructionTable:
    """The instructions a policy knows.

    Attributes:
        texts: Normalised instructions.
        vectors: (len(texts), E) float32, unit length.
    """

    texts: tuple[str, ...]
    vectors: NDArray[np.float32]

    def row(self, instruction: str) -> int:
        """Return the row of an instruction; case, punctuation and spacing do not matter.

        Raises:
            ValueError: Unknown instruction; the message suggests the nearest known one.
        """
        rows = {text: row for row, text in enumerate(self.texts)}
        return lookup(rows, normalise(instruction), "instruction")


def make_table(instructions: Sequence[str], size: int) -> InstructionTable:
    """Return the table of all distinct `instructions`, sorted, with vectors of `size` values."""
    texts = tuple(sorted({normalise(text) for text in instructions}))
    return InstructionTable(texts, np.stack([embed(text, size) for text in texts]))


def embed(text: str, size: int) -> NDArray[np.float32]:
    """Return a unit vector (size,) that depends on the text alone; different texts are unrelated.

    It stands where RT-1 has the Universal Sentence Encoder: with few instructions, telling them
    apart is all that is needed.
    """
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest(), "big")
    vector = np.random.default_rng(seed).standard_normal(size)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def normalise(instruction: str) -> str:
    """Return the instruction in lower case, without punctuation, with single spaces."""
    plain = instruction.lower().translate(str.maketrans("", "", string.punctuation))
    return " ".join(plain.split())
