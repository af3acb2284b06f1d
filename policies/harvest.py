"""Gather instructions and their embeddings from recorded episodes that carry both."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from v2w_gym.policies.instructions import UNIT_TOLERANCE, InstructionTable, normalise
from v2w_gym.world_models.data.arrays import DAMAGED
from v2w_gym.world_models.data.rlds import RldsDataset, RldsEpisode
from v2w_gym.world_models.files import replacing

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sighting:
    """One spelling of an instruction, as the recordings have it.

    Attributes:
        vector: (E,) float32, its embedding.
        episodes: How many episodes have it.
        origin: The first of them.
    """

    vector: NDArray[np.float32]
    episodes: int
    origin: str


class Harvest:
    """What was gathered so far.

    A spelling must have one vector. Spellings that differ only in case, punctuation or spacing are
    one instruction of the table, which keeps the vector of the commonest spelling (of equally
    common ones, the first in the alphabet): that is what most demonstrations were recorded with.

    Args:
        text_feature: Name of the steps' instruction.
        vector_feature: Name of the steps' embedding.
        tolerance: How far apart the values of one spelling's vectors may be.
    """

    def __init__(self, text_feature: str, vector_feature: str, tolerance: float) -> None:
        """Start with nothing."""
        self.text_feature = text_feature
        self.vector_feature = vector_feature
        self.tolerance = tolerance
        self.episodes = 0
        self.spellings: dict[str, Sighting] = {}

    def add(self, episode: RldsEpisode) -> None:
        """Take in the instructions of one episode; empty ones are no instructions.

        Raises:
            ValueError: A feature that is not there, a vector that is not of unit length, or two
                vectors for one spelling.
        """
        texts = episode.text(self.text_feature)
        vectors = episode.step(self.vector_feature)
        seen = {
            text: self._sighting(text, vectors[[found == text for found in texts]], episode.origin)
            for text in dict.fromkeys(texts)
            if normalise(text)
        }
        self.spellings.update(seen)  # all or nothing: an interrupted episode is read again
        self.episodes += 1

    def table(self) -> InstructionTable:
        """Return the table of all instructions, sorted.

        Raises:
            ValueError: None was found.
        """
        if not self.spellings:
            raise ValueError(
                f"expected instructions in {self.text_feature}, found none in {self.episodes} "
                "episodes"
            )
        groups = self._groups()
        several = [group for group in groups.values() if len(group) > 1]
        if several:
            log.info(
                "%d instructions are spelt in several ways, such as %s", len(several), several[0]
            )
        texts = tuple(sorted(groups))
        commonest = [self.spellings[groups[text][0]].vector for text in texts]
        return InstructionTable(texts, np.stack(commonest))

    def counts(self) -> dict[str, int]:
        """Return how many episodes have each instruction of the table."""
        return {
            text: sum(self.spellings[spelling].episodes for spelling in group)
            for text, group in sorted(self._groups().items())
        }

    def _groups(self) -> dict[str, list[str]]:
        """Return the spellings of each normalised instruction, the commonest first."""
        groups: dict[str, list[str]] = {}
        for spelling in sorted(self.spellings, key=lambda s: (-self.spellings[s].episodes, s)):
            groups.setdefault(normalise(spelling), []).append(spelling)
        return groups

    def _sighting(self, text: str, vectors: NDArray[np.float32], origin: str) -> Sighting:
        """Return what is known of a spelling once this episode's vectors (n, E) are counted."""
        length = float(np.linalg.norm(vectors[0]))
        if not abs(length - 1) <= UNIT_TOLERANCE:
            raise ValueError(
                f"expected an embedding of length 1 for {text!r} in {self.vector_feature} of "
                f"{origin}, found length {length:.4g}"
            )
        known = self.spellings.get(text, Sighting(vectors[0].copy(), 0, origin))
        apart = float(np.abs(vectors - known.vector).max())
        if not apart <= self.tolerance:
            raise ValueError(
                f"expected one embedding for {text!r}, found values {apart:.2g} apart in "
                f"{known.origin} and {origin}; if they mean the same, allow it in `v2w embed` with "
                f"tolerance={2 * apart:.1g} and use its table"
            )
        return replace(known, episodes=known.episodes + 1)


def harvest(dataset: RldsDataset, found: Harvest, kept: Path, save_every: int) -> None:
    """Take in every episode of `dataset` that `found` does not have yet; images are not decoded.

    Args:
        dataset: Where the episodes are.
        found: What is added to; what `kept` holds comes first.
        kept: File that holds the harvest so far, so that an interrupted one goes on; it is the
            caller's to delete.
        save_every: Episodes between writes of `kept`.

    Raises:
        ValueError: As for `Harvest.add`, a damaged file, or `kept` belongs to another harvest.
    """
    label = f"{dataset.name} {dataset.split} {found.text_feature} {found.vector_feature}"
    if kept.is_file():
        _resume(kept, found, label)
    rest = dataset.read(found.episodes)
    try:
        with tqdm(
            rest, "harvest", len(dataset), initial=found.episodes, unit="episode"
        ) as episodes:
            for episode in episodes:
                found.add(episode)
                if found.episodes % save_every == 0:
                    _keep(kept, found, label)
    finally:
        if found.episodes:
            _keep(kept, found, label)


def _keep(path: Path, found: Harvest, label: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    seen = found.spellings.values()
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            label=np.array(label),
            episodes=np.array(found.episodes),
            spellings=np.array(list(found.spellings), np.str_),
            vectors=np.array([sighting.vector for sighting in seen]),
            counts=np.array([sighting.episodes for sighting in seen], np.int64),
            origins=np.array([sighting.origin for sighting in seen], np.str_),
        )


def _resume(path: Path, found: Harvest, label: str) -> None:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if str(arrays["label"]) != label:
            raise ValueError(f"one of {str(arrays['label'])!r}")
    except DAMAGED as error:
        raise ValueError(
            f"expected an unfinished harvest of {label!r} in {path}, found {error}; delete the "
            "file to start again"
        ) from error
    columns = (arrays["spellings"].tolist(), arrays["vectors"], arrays["counts"].tolist())
    for spelling, vector, count, origin in zip(*columns, arrays["origins"].tolist(), strict=True):
        found.spellings[spelling] = Sighting(vector, count, origin)
    found.episodes = int(arrays["episodes"])
