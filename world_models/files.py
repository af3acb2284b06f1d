"""Files that appear whole or not at all, and what a killed process leaves of them."""

import os
import re
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

HOST = re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())
STARTED = time.time()
PARTIAL = re.compile(r"\.(?P<pid>\d+)(@(?P<host>[A-Za-z0-9._-]*))?\.partial$")
DAY = 24 * 3600.0
"""Seconds after which an unfinished file of another host counts as left over."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write to; it takes the place of `path` only if nothing goes wrong.

    The content is on disk before it gets its name, so a power cut leaves no empty file. What
    killed processes left of the same file is removed.
    """
    remove_partials(path.parent.glob(f"{escape(path.name)}.*.partial"))
    partial = path.with_name(f"{path.name}.{os.getpid()}@{HOST}.partial")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partials(paths: Iterable[Path]) -> None:
    """Remove those unfinished files that nobody writes to any more."""
    for path in paths:
        if _is_left_over(path):
            path.unlink(missing_ok=True)


def _is_left_over(path: Path) -> bool:
    """Return whether the process that began a file is dead, as far as can be told from here."""
    named = PARTIAL.search(path.name)
    if named is None or not path.is_file():
        return False
    written = path.stat().st_mtime
    if named["host"] not in (None, HOST):
        return written < time.time() - DAY
    if int(named["pid"]) == os.getpid():  # in a container, every run may have the same number
        return written < STARTED
    return not is_alive(int(named["pid"]))


def is_alive(pid: int) -> bool:
    """Return whether a process of this host runs."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
