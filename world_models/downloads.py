"""Checks that a downloaded file is complete: not damaged, and no git-LFS pointer."""

import hashlib
import re
import zipfile
from pathlib import Path

from v2w_gym.world_models.files import BLOCK, digest_of, sha256_of

LFS_POINTER = b"version https://git-lfs"
"""First bytes of a pointer, which git-LFS stores in place of a large file."""
DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
"""A sha256, or git's sha1 for a small file."""


def check_not_lfs_pointer(path: Path) -> None:
    """Refuse a git-LFS pointer, as in a clone without git-LFS.

    Raises:
        OSError: The file cannot be read.
        ValueError: A git-LFS pointer.
    """
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise ValueError(
            f"expected the file itself at {path}, found a git-LFS pointer to it; run `git lfs "
            "pull` in its repository, or download the file again"
        )


def check_present(path: Path) -> None:
    """Refuse a missing file of a data set, and a git-LFS pointer to one.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A git-LFS pointer.
    """
    if not path.is_file():
        raise FileNotFoundError(
            f"expected the file {path}, found none; download the data set again"
        )
    check_not_lfs_pointer(path)


def check_download(path: Path) -> None:
    """Refuse a file that differs from the published one.

    Only the cache of the Hugging Face hub records digests; files elsewhere pass.

    Raises:
        OSError: The file cannot be read.
        ValueError: A git-LFS pointer, or a file with another digest.
    """
    check_not_lfs_pointer(path)
    published = published_digest(path)
    if published is None:
        return
    found = sha256_of(path) if len(published) == 64 else git_sha1_of(path)
    if found != published:
        kind = "sha256" if len(published) == 64 else "git sha1"
        raise ValueError(
            f"expected {path} with {kind} {published}, as in the hub's cache, found {found}: "
            f"the download is damaged; delete {path.resolve()} and download it again"
        )


def published_digest(path: Path) -> str | None:
    """Return the digest of a file in the Hugging Face hub's cache; None for other files.

    In the shared cache a file is a link to a blob, whose name is the digest. In a downloaded folder
    a metadata file holds the digest, which is valid until the file changes.
    """
    blob = path.resolve()
    if blob.parent.name == "blobs" and DIGEST.fullmatch(blob.name):
        return blob.name
    return _noted_digest(path.absolute())


def _noted_digest(path: Path) -> str | None:
    for folder in path.parents:
        place = path.relative_to(folder)
        note = folder / ".cache" / "huggingface" / "download" / f"{place}.metadata"
        if note.is_file():
            _, digest, written, *_ = [*note.read_text(errors="replace").split("\n"), "", "", ""]
            unchanged = path.stat().st_mtime <= _seconds(written) + 1
            return digest if unchanged and DIGEST.fullmatch(digest) else None
    return None


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def check_checksums(path: Path) -> None:
    """Compare every member of a zip file with its checksum, which torch.load does not do.

    A file without any checksums, as PyTorch can write it, passes.

    Raises:
        ValueError: Truncated, damaged, or compressed, which PyTorch files never are.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
    except (zipfile.BadZipFile, RuntimeError, EOFError, OSError) as error:
        raise ValueError(
            f"expected a whole PyTorch checkpoint at {path}, found {error}: it is damaged; copy it "
            "or download it again"
        ) from error


def _check_members(path: Path, archive: zipfile.ZipFile) -> None:
    members = archive.infolist()
    packed = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED]
    if packed or sum(member.file_size for member in members) > path.stat().st_size:
        raise ValueError(
            f"expected a PyTorch checkpoint as torch.save writes it at {path}, found a zip file "
            f"with compressed or overlapping members {packed[:1]}; unpack it, or save it again"
        )
    if not any(member.CRC for member in members):  # see torch.serialization.set_crc32_options
        return
    for member in members:
        with archive.open(member) as file:
            while file.read(BLOCK):
                pass


def git_sha1_of(path: Path) -> str:
    """Return git's sha1 of a file, in hexadecimal."""
    start = f"blob {path.stat().st_size}\0".encode()
    return digest_of(path, hashlib.sha1(start, usedforsecurity=False))
