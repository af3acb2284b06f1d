"""Lazy imports of TensorFlow and TFDS: quiet, on the CPU, in one thread."""

import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from v2w_gym.configs.text import printable

INSTALL = "pip install '.[tensorflow]'"
NOISE = re.compile(r"\{\{[^}]*\}\} |\[Op:\w+\].*", re.DOTALL)
"""Text that TensorFlow adds before and after the reason of an error."""
REASON_LENGTH = 200
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2"}
GLOBAL_FLAGS = "tensorflow.python.pywrap_dlopen_global_flags"
"""The module by which TensorFlow shows its symbols to all libraries; it does without."""


def import_tensorflow(onednn: bool = False) -> Any:
    """Return the module `tensorflow`; if it is imported already, its settings stay.

    Args:
        onednn: Whether networks may run on oneDNN, TensorFlow's default. Reading files does not
            need it, and it logs a notice on import.

    Raises:
        ModuleNotFoundError: TensorFlow is not installed.
    """
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    try:
        with (
            _environment(QUIET if onednn else {**QUIET, "TF_ENABLE_ONEDNN_OPTS": "0"}),
            _own_symbols(),
        ):
            import tensorflow as tf
    except ModuleNotFoundError as error:
        raise _missing("tensorflow", error) from error
    tf.config.set_visible_devices([], "GPU")  # PyTorch uses the GPU
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


def import_tfds() -> Any:
    """Return the module `tensorflow_datasets`.

    Raises:
        ModuleNotFoundError: TFDS or TensorFlow is not installed.
    """
    import_tensorflow()
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise _missing("tensorflow-datasets", error) from error
    logging.getLogger("absl").setLevel(logging.WARNING)  # TFDS logs every folder that it opens
    return tfds


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn errors of TensorFlow about damaged data into one line.

    Raises:
        ValueError: `expected {what}, found ...`.
    """
    from google.protobuf.message import DecodeError

    op_error = import_tensorflow().errors.OpError
    try:
        yield
    except (op_error, DecodeError, IndexError, RuntimeError, ValueError) as error:
        raise ValueError(f"expected {what}, found this: {reason(error)}; copy it again") from error


def reason(error: Exception) -> str:
    """Return the reason of an error of TensorFlow as one short line."""
    return printable(NOISE.sub("", str(error)).strip(), REASON_LENGTH)


@contextmanager
def _own_symbols() -> Iterator[None]:
    """Keep the symbols of what is imported apart from those of other libraries.

    TensorFlow and the OpenGL library that MuJoCo renders with both contain LLVM. Where one finds
    the other's symbols, the process crashes, whichever of them is loaded first.
    """
    flags = sys.getdlopenflags()
    sys.setdlopenflags(flags | getattr(os, "RTLD_DEEPBIND", 0))
    sys.modules[GLOBAL_FLAGS] = None  # type: ignore[assignment]  # so that importing it fails
    try:
        yield
    finally:
        del sys.modules[GLOBAL_FLAGS]
        sys.setdlopenflags(flags)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables that are not set, for the block alone, so that later processes lack them."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _missing(name: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"expected {name} to read TensorFlow's files, found no module {error.name!r}; "
        f"run: {INSTALL}",
        name=error.name,
    )
