"""TensorFlow and TFDS, imported when a file of theirs is read: quiet, on the CPU, in one thread."""

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
"""What TensorFlow writes before and behind the reason of an error."""
REASON_LENGTH = 200
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2"}
GLOBAL_FLAGS = "tensorflow.python.pywrap_dlopen_global_flags"
"""The module by which TensorFlow shows its symbols to all libraries; it does without."""


def import_tensorflow(onednn: bool = False) -> Any:
    """Return the module `tensorflow`; a program that has imported it keeps its own settings.

    Args:
        onednn: Whether networks may run on oneDNN, as is TensorFlow's default. Files are read
            without it, since it logs a notice as soon as it is imported.

    Raises:
        ModuleNotFoundError: It is not installed.
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
    tf.config.set_visible_devices([], "GPU")  # PyTorch's
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf


def import_tfds() -> Any:
    """Return the module `tensorflow_datasets`.

    Raises:
        ModuleNotFoundError: It or TensorFlow is not installed.
    """
    import_tensorflow()
    try:
        import tensorflow_datasets as tfds
    except ModuleNotFoundError as error:
        raise _missing("tensorflow-datasets", error) from error
    logging.getLogger("absl").setLevel(logging.WARNING)  # TFDS tells of every folder it opens
    return tfds


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Say in one line what was expected where TensorFlow finds damage.

    Raises:
        ValueError: `expected {what}, found ...`.
    """
    try:
        yield
    except (import_tensorflow().errors.OpError, IndexError, RuntimeError, ValueError) as error:
        raise ValueError(f"expected {what}, found this: {reason(error)}; copy it again") from error


def reason(error: Exception) -> str:
    """Return what TensorFlow says of an error, as one short line."""
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
    """Set those that are not set, for the block alone: processes started later do not inherit."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _missing(name: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"expected {name} to read files that TensorFlow wrote, found no module {error.name!r}; "
        f"run: {INSTALL}",
        name=error.name,
    )
