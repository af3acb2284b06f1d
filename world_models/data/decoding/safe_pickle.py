"""Safe reading of pickle files of arrays and plain containers: they can call nothing else."""

import pickle
import pickletools
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST_PICKLE = 1 << 28
"""Most bytes of such a file: 256 MiB."""


def load_pickle(path: Path) -> Any:
    """Return the contents of a pickle file: arrays, numbers, text, and plain containers of them.

    Raises:
        ValueError: Anything else in the file, or a damaged or large one.
        OSError: The file cannot be read.
    """
    if path.stat().st_size > LARGEST_PICKLE:
        raise ValueError(f"a pickle of {path.stat().st_size:,} bytes, more than {LARGEST_PICKLE:,}")
    content = path.read_bytes()
    try:
        _check_memo(content)
        return _Unpickler(BytesIO(content)).load()
    except Exception as error:  # a damaged pickle may raise any, such as AttributeError
        raise ValueError(f"a pickle that cannot be loaded safely: {error}") from error


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return what an array or a number needs; nothing else is imported."""
        if (module, name) in ALLOWED:
            return ALLOWED[module, name]
        raise ValueError(f"{module}.{name}, which is no array and no plain container")


def _check_memo(content: bytes) -> None:
    """Check the places in the memo: the unpickler allocates memory up to the largest one."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise ValueError(f"place {argument:,} of the memo in {len(content):,} bytes")


def _from_buffer(
    buffer: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], order: str
) -> NDArray[Any]:
    """Return an array, as protocol 5 stores it."""
    return np.frombuffer(buffer, dtype).reshape(shape, order="F" if order == "F" else "C")


def _encode(text: str, encoding: str) -> bytes:
    """Return bytes, which protocols 0 to 2 store as text."""
    if encoding != "latin1":
        raise ValueError(f"text in encoding {encoding!r}, not latin1")
    return text.encode(encoding)


_CORES = ("numpy.core", "numpy._core")
"""Names of the same package, before and after numpy 2."""
ALLOWED: Mapping[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _encode,
    **{(f"{core}.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0] for core in _CORES},
    **{(f"{core}.multiarray", "scalar"): np.float64(0).__reduce__()[0] for core in _CORES},
    **{(f"{core}.numeric", "_frombuffer"): _from_buffer for core in _CORES},
}
"""Module and name -> what it stands for."""
