"""TensorFlow and TFDS, imported when a file of theirs is read: quiet, on the CPU, in one thread."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from v2w_gym.configs.text import printable

INSTALL = "pip install '.[tensorflow]'"
NOISE = re.compile(r"\{\{[^}]*\}\} |\[Op:\w+\].*", re.DOTALL)
"""What TensorFlow writes before and behind the reason of an error."""
REASON_LENGTH = 200


def import_tensorflow() -> Any:
    """Return the module `tensorflow`.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    in_use = "tensorflow" in sys.modules  # by a program that has chosen devices and threads itself
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # Without oneDNN, convolutions give the same numbers on every machine, and no notice is logged.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    try:
        import tensorflow as tf
    except ModuleNotFoundError as error:
        raise _missing("tensorflow", error) from error
    if not in_use:
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


def _missing(name: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    return ModuleNotFoundError(
        f"expected {name} to read files that TensorFlow wrote, found no module {error.name!r}; "
        f"run: {INSTALL}",
        name=error.name,
    )
