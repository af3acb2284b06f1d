"""Encode new instructions with the sentence encoder that a table's vectors came from."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.text import to_path
from v2w_gym.policies.instructions import UNIT_TOLERANCE, InstructionTable, normalise
from v2w_gym.world_models.downloads import check_download

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
"""Returns unit vectors (N, E) for N texts."""

PREFIX = "onnx:"
CHECKED = 64
"""Entries of a table that an encoder is checked against, evenly spread."""


def make_encoder(name: str) -> Encode:
    """Return the encoder that a setting names: "onnx:" and the path of a model.

    Raises:
        ValueError: Another name, or a file that is not such a model.
        FileNotFoundError: No model at the path.
        ModuleNotFoundError: The packages that run the model are not installed.
    """
    if not name.startswith(PREFIX):
        raise ValueError(
            f"expected encoder={PREFIX}PATH with the path of an ONNX model, found {name!r}"
        )
    return onnx_encoder(to_path(name.removeprefix(PREFIX)))


def onnx_encoder(path: Path) -> Encode:
    """Return an encoder that runs an ONNX model from text (N,) to vectors (N, E).

    RT-1's embeddings come from the Universal Sentence Encoder (large, version 5), which is
    published in this form, its tokenizer inside, as SamLowe/universal-sentence-encoder-large-5-onnx
    on Hugging Face.

    Raises:
        FileNotFoundError: No file at `path`.
        ModuleNotFoundError: onnxruntime or onnxruntime-extensions is not installed.
        ValueError: Not a model, or not one from text to vectors.
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
        # One by one: a text's vector must not depend on the others'.
        rows = [session.run([found.name], {first.name: [text]})[0] for text in texts]
        return _checked(np.concatenate(rows), texts, path)

    return encode


def extend(
    table: InstructionTable, texts: Sequence[str], encode: Encode, least: float
) -> InstructionTable:
    """Return `table` with the vectors of the `texts` that it lacks, sorted.

    Texts are normalised before they are encoded, as policies normalise what they are told.

    Args:
        table: Vectors that came from the same encoder; this is checked first.
        texts: New instructions.
        encode: See `Encode`.
        least: Smallest cosine between a vector of the table and the encoder's own.

    Raises:
        ValueError: An encoder that gives other vectors than the table has, or an empty text.
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
    """Check that an encoder gives a table's own vectors.

    Raises:
        ValueError: It does not; the message names the worst text.
    """
    rows = np.unique(np.linspace(0, len(table.texts) - 1, CHECKED).astype(int))
    texts = [table.texts[row] for row in rows]
    found = encode(texts)
    wanted = table.vectors[rows]
    if found.shape != wanted.shape:
        raise ValueError(
            f"expected vectors of {wanted.shape[1]} values as in the table, found an encoder of "
            f"{found.shape[1]}; take the encoder that the table came from"
        )
    cosines = (found * wanted).sum(1)
    worst = int(cosines.argmin())
    if not cosines[worst] >= least:
        raise ValueError(
            f"expected an encoder that gives the table's own vectors (cosine of at least {least}), "
            f"found {cosines[worst]:.4f} for {texts[worst]!r}; take the one the table came from"
        )


def _session(path: Path) -> Any:
    """Load a model with the operators that tokenise text."""
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
