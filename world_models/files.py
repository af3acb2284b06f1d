"""Atomic writing of files: an interruption at any moment leaves no half-written file."""

import hashlib
import logging
import os
import re
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

log = logging.getLogger(__name__)

HOST = re.sub(r"[^A-Za-z0-9.-]", "_", socket.gethostname())
STARTED = time.time()
PARTIAL = re.compile(r"\.(?P<pid>\d+)(@(?P<host>[A-Za-z0-9._-]*))?\.partial$")
"""Ending of an unfinished file's name: the process and the host that write it."""
DAY = 24 * 3600.0
"""Seconds after which an unfinished file of another host counts as abandoned."""
BLOCK = 1 << 20
"""Bytes to read at a time."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it replaces `path` if the block succeeds.

    The content reaches the disk before the file is renamed, so a power cut leaves no empty file.
    Unfinished versions of the same file, which killed processes left, are removed first.
    """
    remove_partials(path.parent.glob(f"{escape(path.name)}.*.partial"))
    partial = path.with_name(f"{path.name}.{os.getpid()}@{HOST}.partial")
    try:
        yield partial
        _sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; see `replacing`."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str) -> None:
    """Append one line to a file, and wait until it is on disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def whole_lines(path: Path) -> list[str]:
    """Return the lines of a file without an incomplete last one; none if there is no file."""
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]


def cut_torn_line(path: Path) -> None:
    """Remove an incomplete last line, so that the next one starts on its own line."""
    content = path.read_bytes() if path.exists() else b""
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        log.warning("%s ends in an incomplete line; that part will be repeated", path)
        os.truncate(path, whole)


def check_writable(folder: Path, setting: str = "output") -> None:
    """Make a folder, and check that files can be written there.

    Raises:
        OSError: No file can be written; the message names `setting`, which chooses the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise type(error)(
            f"expected a writable folder at {folder}, found: {error.strerror}; "
            f"choose another one with {setting}=..."
        ) from error


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file, in hexadecimal."""
    return digest_of(path, hashlib.sha256())


def digest_of(path: Path, digest: "hashlib._Hash") -> str:
    """Feed a file to `digest`, and return the digest in hexadecimal."""
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def remove_partials(paths: Iterable[Path]) -> None:
    """Remove unfinished files whose process is dead."""
    for path in paths:
        if _is_left_over(path):
            path.unlink(missing_ok=True)


def _is_left_over(path: Path) -> bool:
    """Whether a file is unfinished and its process dead, as far as this host can tell."""
    named = PARTIAL.search(path.name)
    if named is None or not path.is_file():
        return False
    written = path.stat().st_mtime
    if named["host"] not in (None, HOST):
        return written < time.time() - DAY
    if int(named["pid"]) == os.getpid():  # in containers, an earlier run may have had this pid
        return written < STARTED
    return not is_alive(int(named["pid"]))


def is_alive(pid: int) -> bool:
    """Whether a process of this host is running."""
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
