"""Collect instruction embeddings from recordings, and extend the table with an encoder."""

import importlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from v2w_gym.configs.text import to_path
from v2w_gym.policies.instructions import UNIT_TOLERANCE, InstructionTable, normalise
from v2w_gym.world_models.data.decoding.arrays import DAMAGED
from v2w_gym.world_models.data.sources.rlds_records import RldsDataset, RldsRecord
from v2w_gym.world_models.downloads import check_download
from v2w_gym.world_models.files import replacing

log = logging.getLogger(__name__)

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Encodes N texts as unit vectors (N, E)."""

EMBEDDING = "observation/natural_language_embedding"
"""Feature of fractal20220817_data: the instruction's Universal Sentence Encoder vector, (512,)."""
PREFIX = "onnx:"
CHECKED = 64
"""Entries of a table with which an encoder is compared, evenly spread."""


@dataclass(frozen=True)
class Sighting:
    """One spelling of an instruction in the recordings.

    Attributes:
        vector: (E,) float32, its embedding.
        episodes: Number of episodes with it.
        origin: The first of these episodes.
    """

    vector: NDArray[np.float32]
    episodes: int
    origin: str


class Harvest:
    """The instructions and embeddings collected so far.

    A spelling must have one vector. Spellings that differ only in case, punctuation or spacing are
    one instruction of the table. It keeps the vector of the most frequent spelling, because most
    demonstrations were recorded with it; ties are broken alphabetically.

    Args:
        text_feature: Name of the steps' instruction.
        vector_feature: Name of the steps' embedding.
        tolerance: Largest difference between the values of one spelling's vectors.
    """

    def __init__(self, text_feature: str, vector_feature: str, tolerance: float) -> None:
        self.text_feature = text_feature
        self.vector_feature = vector_feature
        self.tolerance = tolerance
        self.episodes = 0
        self.spellings: dict[str, Sighting] = {}

    def add(self, episode: RldsRecord) -> None:
        """Add the instructions of one episode; empty texts are skipped.

        Raises:
            ValueError: A missing feature, a vector that is not of unit length, or two vectors for
                one spelling.
        """
        texts = episode.text(self.text_feature)
        vectors = episode.step(self.vector_feature)
        sightings = {
            text: self._sighting(text, vectors[[found == text for found in texts]], episode.origin)
            for text in dict.fromkeys(texts)
            if normalise(text)
        }
        self.spellings.update(sightings)  # all or nothing: an interrupted episode is read again
        self.episodes += 1

    def table(self) -> InstructionTable:
        """Return the table of all instructions, sorted.

        Raises:
            ValueError: No instruction was found.
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
        """Return the spellings of each normalised instruction, the most frequent first."""
        groups: dict[str, list[str]] = {}
        for spelling in sorted(self.spellings, key=lambda s: (-self.spellings[s].episodes, s)):
            groups.setdefault(normalise(spelling), []).append(spelling)
        return groups

    def _sighting(self, text: str, vectors: NDArray[np.float32], origin: str) -> Sighting:
        """Return a spelling's entry, updated with an episode's vectors (n, E)."""
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
                f"{known.origin} and {origin}; if they mean the same, allow the difference in `v2w "
                f"embed` with tolerance={2 * apart:.1g} and use its table"
            )
        return replace(known, episodes=known.episodes + 1)


def harvest(dataset: RldsDataset, found: Harvest, kept: Path, save_every: int) -> None:
    """Add every episode of `dataset` to `found`; images are not decoded.

    Args:
        dataset: The recorded episodes.
        found: The harvest to extend. An unfinished harvest in `kept` is loaded first.
        kept: File of the unfinished harvest, so that an interrupted run resumes. The caller deletes
            it.
        save_every: Episodes between writes of `kept`.

    Raises:
        ValueError: As for `Harvest.add`, or `kept` is damaged or belongs to another harvest.
    """
    label = f"{dataset.label} {dataset.split} {found.text_feature} {found.vector_feature}"
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
    sightings = found.spellings.values()
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(
            file,
            label=np.array(label),
            episodes=np.array(found.episodes),
            spellings=np.array(list(found.spellings), np.str_),
            vectors=np.array([sighting.vector for sighting in sightings]),
            counts=np.array([sighting.episodes for sighting in sightings], np.int64),
            origins=np.array([sighting.origin for sighting in sightings], np.str_),
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


def make_encoder(name: str) -> Encode:
    """Return the encoder of a setting "onnx:PATH".

    Raises:
        ValueError: Another name, or a file that is no such model.
        FileNotFoundError: No model at the path.
        ModuleNotFoundError: The packages that run the model are not installed.
    """
    if not name.startswith(PREFIX):
        raise ValueError(
            f"expected encoder={PREFIX}PATH with the path of an ONNX model, found {name!r}"
        )
    return onnx_encoder(to_path(name.removeprefix(PREFIX)))


def onnx_encoder(path: Path) -> Encode:
    """Return an encoder that runs an ONNX model from texts (N,) to vectors (N, E).

    RT-1's embeddings come from the Universal Sentence Encoder (large, version 5). Hugging Face has
    it in this form, with its tokenizer, as SamLowe/universal-sentence-encoder-large-5-onnx.

    Raises:
        FileNotFoundError: No file at `path`.
        ModuleNotFoundError: onnxruntime or onnxruntime-extensions is not installed.
        ValueError: The file is no ONNX model, or the model does not map text to vectors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"expected an ONNX model at {path}, found none")
    check_download(path)
    session = _session(path)
    (first, *others), (found, *_) = session.get_inputs(), session.get_outputs()
    if first.type != "tensor(string)" or others or found.type != "tensor(float)":
        raise ValueError(
            f"expected a model from strings to float vectors in {path}, found {first.type} "
            f"{[other.type for other in others]} to {found.type}"
        )

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        # One by one, so that a text's vector does not depend on the other texts.
        rows = [session.run([found.name], {first.name: [text]})[0] for text in texts]
        return _checked(np.concatenate(rows), texts, path)

    return encode


def extend(
    table: InstructionTable, texts: Sequence[str], encode: Encode, least: float
) -> InstructionTable:
    """Return `table`, sorted, with vectors of the `texts` that it lacks.

    Texts are normalised before they are encoded, as policies normalise their instructions.

    Args:
        table: A table whose vectors the same encoder made; this is checked first.
        texts: New instructions.
        encode: The encoder.
        least: Smallest allowed cosine between a vector of the table and the encoder's.

    Raises:
        ValueError: The encoder's vectors differ from the table's, or a text is empty.
    """
    check_encoder(table, encode, least)
    new = sorted({normalise(text) for text in texts} - set(table.texts))
    if "" in new:
        raise ValueError("expected instructions of at least one word in texts, found an empty one")
    if not new:
        return table
    vectors = np.concatenate([table.vectors, encode(new)])
    known = (*table.texts, *new)
    order = sorted(range(len(known)), key=known.__getitem__)
    return InstructionTable(tuple(known[row] for row in order), vectors[order])


def check_encoder(table: InstructionTable, encode: Encode, least: float) -> None:
    """Check that an encoder reproduces a table's vectors.

    Raises:
        ValueError: The vectors differ; the message names the worst text.
    """
    rows = np.unique(np.linspace(0, len(table.texts) - 1, CHECKED).astype(int))
    texts = [table.texts[row] for row in rows]
    found = encode(texts)
    wanted = table.vectors[rows]
    if found.shape != wanted.shape:
        raise ValueError(
            f"expected vectors of {wanted.shape[1]} values as in the table, found an encoder of "
            f"{found.shape[1]}; use the encoder that made the table"
        )
    cosines = (found * wanted).sum(1)
    worst = int(cosines.argmin())
    if not cosines[worst] >= least:
        raise ValueError(
            f"expected an encoder that reproduces the table's vectors (cosine at least {least}), "
            f"found {cosines[worst]:.4f} for {texts[worst]!r}; use the encoder that made the table"
        )


def _session(path: Path) -> Any:
    """Load an ONNX model with the text tokenizer operators."""
    try:
        runtime: Any = importlib.import_module("onnxruntime")
        extensions: Any = importlib.import_module("onnxruntime_extensions")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"expected onnxruntime and onnxruntime-extensions to encode text, found no "
            f"{error.name}; run: pip install '.[language]'"
        ) from error
    options = runtime.SessionOptions()
    options.register_custom_ops_library(extensions.get_library_path())
    errors: Any = importlib.import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    damaged = (errors.Fail, errors.InvalidGraph, errors.InvalidProtobuf, errors.NotImplemented)
    try:
        return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except damaged as error:
        raise ValueError(f"expected an ONNX model in {path}, found {error}") from error


def _checked(vectors: NDArray[np.float32], texts: Sequence[str], path: Path) -> NDArray[np.float32]:
    lengths = np.linalg.norm(vectors, axis=-1)
    if vectors.shape[:-1] != (len(texts),) or not (abs(lengths - 1) <= UNIT_TOLERANCE).all():
        raise ValueError(
            f"expected {len(texts)} vectors of length 1 from {path}, found shape {vectors.shape} "
            f"and lengths {lengths.min():.4g} to {lengths.max():.4g}"
        )
    return vectors
