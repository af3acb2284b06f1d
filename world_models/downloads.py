"""Whether a file is the one that was published: not a pointer to it, and not a damaged copy."""

import hashlib
import re
import zipfile
from pathlib import Path

from v2w_gym.world_models.files import BLOCK, digest_of, sha256_of

LFS_POINTER = b"version https://git-lfs"
"""How the text begins that git keeps in place of a large file."""
DIGEST = re.compile(r"[0-9a-f]{64}|[0-9a-f]{40}")
"""A sha256, or the sha1 that git gives a small file."""


def check_not_lfs_pointer(path: Path) -> None:
    """Refuse what a clone without git-LFS holds in place of a large file.

    Raises:
        OSError: It cannot be read.
        ValueError: A pointer of git-LFS.
    """
    with path.open("rb") as file:
        start = file.read(len(LFS_POINTER))
    if start == LFS_POINTER:
        raise ValueError(
            f"expected the file itself at {path}, found a git-LFS pointer to it; run `git lfs "
            "pull` in its repository, or download the file again"
        )


def check_download(path: Path) -> None:
    """Refuse a file that did not arrive as it was published, as far as its place can tell.

    A file of the Hugging Face hub's cache is compared with its digest; other files pass.

    Raises:
        OSError: It cannot be read.
        ValueError: A pointer of git-LFS, or other bytes than were published.
    """
    check_not_lfs_pointer(path)
    published = published_digest(path)
    if published is None:
        return
    found = sha256_of(path) if len(published) == 64 else git_sha1_of(path)
    if found != published:
        kind = "sha256" if len(published) == 64 else "git sha1"
        raise ValueError(
            f"expected {path} with {kind} {published} as the hub's cache notes it, found {found}: "
            f"the download is damaged; delete {path.resolve()} and download it again"
        )


def published_digest(path: Path) -> str | None:
    """Return the digest that the Hugging Face hub's cache notes for a file; None elsewhere.

    In the shared cache a file is a link to a blob, whose name is the digest. In a folder that was
    downloaded as a whole, the digest stands in a file of metadata, until the file is changed.
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
    """Read every member of a zip file and compare it with its checksum, which torch.load does not.

    PyTorch can leave all checksums out; such a file passes.

    Raises:
        ValueError: Truncated, damaged, or compressed, which PyTorch never does.
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
    """Return the sha1 under which git stores a file, in hexadecimal."""
    start = f"blob {path.stat().st_size}\0".encode()
    return digest_of(path, hashlib.sha1(start, usedforsecurity=False))
