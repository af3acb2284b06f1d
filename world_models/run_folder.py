"""Run folders: one process at a time works in one, and only the same run resumes there.

A command holds its folder, checks its settings, and then begins:

    with hold_folder(Path(cfg.output)) as path:  # another process is refused
        run = RunFolder(path, identity)  # another run is refused
        ...  # a failure here leaves no folder behind
        run.begin()
"""

import fcntl
import json
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

from v2w_gym.configs.text import printable
from v2w_gym.world_models.files import HOST, check_writable, remove_partials, write_text

log = logging.getLogger(__name__)

LOCK = "run.lock"
NOT_THERE = "nothing"
SHOWN_DIFFERENCES = 4
TAIL = 64 * 1024
"""Bytes at the end of a file that identify it; in a zip they hold the checksums of its members."""


@contextmanager
def hold_folder(folder: Path) -> Iterator[Path]:
    """Make a folder, and lock it for this process until the block ends; see `hold`.

    Unfinished files of killed processes are removed.

    Raises:
        BlockingIOError: Another process, which the message names, has locked it.
        OSError: The folder cannot be written.
    """
    with hold(folder / LOCK):
        remove_partials(folder.rglob("*.partial"))
        yield folder


@contextmanager
def hold_beside(output: Path) -> Iterator[Path]:
    """Lock a temporary folder for the state of a training until its only file, `output`, is done.

    Raises:
        BlockingIOError: Another process trains the same file.
        OSError: The file's folder cannot be written.
    """
    with hold_folder(output.with_suffix(".training")) as folder:
        yield folder
        shutil.rmtree(folder)


@contextmanager
def hold(lock: Path) -> Iterator[None]:
    """Hold the file lock `lock` until the block ends.

    The operating system releases the lock of a process that dies. On NFS the lock also excludes
    other hosts. On a file system without locks, a warning is logged and nothing is locked. The
    lock's folder is made, and removed again if the block wrote nothing there.

    Raises:
        BlockingIOError: Another process, which the message names, holds it.
        OSError: Its folder cannot be written.
    """
    new = not lock.parent.exists()
    check_writable(lock.parent)
    file = _lock(lock)
    try:
        yield
    finally:
        lock.unlink(
            missing_ok=True
        )  # before the release, so that no other process's lock is removed
        file.close()
        if new:
            with suppress(OSError):  # it is not empty
                lock.parent.rmdir()


class RunFolder:
    """The folder of one run, in which only the same run resumes.

    Runs are the same if their identities are equal. An identity is the JSON values that determine
    the results, such as settings, fingerprints and digests of files.
    """

    def __init__(
        self,
        path: Path,
        identity: Mapping[str, Any],
        may_differ: Collection[str] = (),
        noted_in: str = "run.json",
    ) -> None:
        """Check that the folder is free or holds the same run, without writing anything.

        Args:
            path: The folder.
            identity: Identity of the run.
            may_differ: Names in it that a resumed run may change, nested ones as `a.b`.
            noted_in: Name of the file with the identity. If it is missing or empty, any run may
                begin.

        Raises:
            ValueError: The folder holds another run, or the file is damaged.
        """
        self.path = path
        self._file = path / noted_in
        self._identity = json.loads(json.dumps(identity))
        earlier = read_identity(self._file)
        if earlier is not None:
            self._refuse(differences(earlier, self._identity), may_differ)

    def begin(self) -> Path:
        """Write the identity to the folder, and return the folder.

        Raises:
            OSError: The folder cannot be written.
        """
        check_writable(self.path)
        if read_identity(self._file) != self._identity:
            write_text(self._file, json.dumps(self._identity, indent=2) + "\n")
        return self.path

    def _refuse(self, found: Mapping[str, tuple[Any, Any]], may_differ: Collection[str]) -> None:
        other = [
            f"expected {name} {old!r}, found {new!r}"
            for name, (old, new) in found.items()
            if not _covers(may_differ, name)
        ]
        if other:
            more = len(other) - SHOWN_DIFFERENCES
            shown = "; ".join(other[:SHOWN_DIFFERENCES])
            raise ValueError(
                f"{self.path} holds another run: {shown}{f'; and {more} more' * (more > 0)}; "
                "choose another folder with output=..., or delete this one"
            )


def read_identity(file: Path) -> dict[str, Any] | None:
    """Return the identity in a file; None if it is missing or empty, as after a crash.

    Raises:
        ValueError: A damaged file.
    """
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    if not text.strip("\0 \n"):
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"expected the settings of a run in {file}, found a damaged file; delete it if this "
            "command made the folder, or choose another output=..."
        ) from error
    return found if isinstance(found, dict) else {}


def differences(earlier: object, found: object, name: str = "") -> dict[str, tuple[Any, Any]]:
    """Return the differences of two nested JSON values: name -> (old, new)."""
    if isinstance(earlier, dict) and isinstance(found, dict):
        parts = [
            differences(
                earlier.get(key, NOT_THERE),
                found.get(key, NOT_THERE),
                f"{name}.{key}" if name else key,
            )
            for key in {**found, **earlier}
        ]
        return {key: pair for part in parts for key, pair in part.items()}
    return {} if earlier == found else {name: (earlier, found)}


def identify_files(paths: Sequence[Path]) -> str:
    """Return a text that identifies files by their content, in any folder.

    It covers names, sizes and last bytes. In compressed archives the last bytes hold checksums, so
    they change with the rest.
    """
    digest = sha256()
    for path in paths:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(size - TAIL, 0))
            digest.update(f"{path.name}\0{size}\0".encode() + file.read(TAIL))
    return f"{len(paths)} files with digest {digest.hexdigest()[:16]}"


def _covers(names: Collection[str], name: str) -> bool:
    """Whether `name`, or a mapping that contains it, is among `names`."""
    return name in names or any(name.startswith(f"{whole}.") for whole in names)


def _lock(path: Path) -> IO[str]:
    """Open and lock a file; try again if its holder removed it meanwhile."""
    while True:
        file = path.open("a+", encoding="utf-8", errors="replace")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = _read_holder(file)
            file.close()
            raise BlockingIOError(
                f"expected to run alone in {path.parent}, found {holder}; wait until it ends, or "
                "choose another output=..."
            ) from error
        except OSError as error:
            log.warning("%s cannot be locked (%s): start only one run there", path, error.strerror)
            return file
        if path.exists() and os.path.samestat(path.stat(), os.fstat(file.fileno())):
            file.truncate(0)
            file.write(_describe_this_process())
            file.flush()
            return file
        file.close()


def _describe_this_process() -> str:
    began = time.strftime("%Y-%m-%d %H:%M:%S")
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return f"process {os.getpid()} on {HOST} since {began}: {shlex.join(words)}"


def _read_holder(file: IO[str]) -> str:
    file.seek(0)
    return printable(file.read(), 300) or "another process"
