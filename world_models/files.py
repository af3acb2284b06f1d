"""Whether a file is the one that was published: not a pointer to it, and not a damaged copy."""

from pathlib import Path

LFS_POINTER = b"version https://git-lfs"
"""How the text begins that git keeps in place of a large file."""


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
