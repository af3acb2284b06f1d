"""Files that are not the published ones: pointers, damaged copies, damaged zip members."""

import hashlib
import os
import zipfile

import pytest
import torch

from v2w_gym.world_models.downloads import (
    check_checksums,
    check_download,
    check_not_lfs_pointer,
    git_sha1_of,
    published_digest,
)
from v2w_gym.world_models.files import sha256_of

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 10445012345\n"


def test_a_pointer_of_git_lfs_is_named(tmp_path):
    path = tmp_path / "model.ckpt"
    path.write_bytes(POINTER)
    with pytest.raises(ValueError, match=r"model\.ckpt, found a git-LFS pointer.*git lfs pull"):
        check_not_lfs_pointer(path)
    path.write_bytes(POINTER[:8])
    check_not_lfs_pointer(path)


def test_the_sha1_is_the_one_that_git_gives(tmp_path):
    path = tmp_path / "hello.txt"
    path.write_bytes(b"hello\n")
    assert git_sha1_of(path) == "ce013625030ba8dba906f756967f9e9ca394464a"  # git hash-object


@pytest.fixture(params=["sha256", "git sha1"])
def cached(request, tmp_path):
    """A link of the hub's cache to a blob that is named by its digest."""
    content = b'{"weights": 1}'
    whole = tmp_path / "whole"
    whole.write_bytes(content)
    digest = sha256_of(whole) if request.param == "sha256" else git_sha1_of(whole)
    blob = tmp_path / "models--lab--world" / "blobs" / digest
    link = tmp_path / "models--lab--world" / "snapshots" / "main" / "model.safetensors"
    for folder in (blob.parent, link.parent):
        folder.mkdir(parents=True)
    blob.write_bytes(content)
    link.symlink_to(os.path.relpath(blob, link.parent))
    return link


def test_a_blob_of_the_hubs_cache_is_compared_with_its_name(cached):
    check_download(cached)
    blob = cached.resolve()
    assert published_digest(cached) == published_digest(blob) == blob.name
    blob.write_bytes(b'{"weights": 2}')
    for path in (cached, blob):
        with pytest.raises(ValueError, match=f"is damaged; delete {blob} and download it again"):
            check_download(path)


def test_a_file_elsewhere_has_no_digest(tmp_path):
    blobs = tmp_path / "blobs" / "model.ckpt"
    blobs.parent.mkdir()
    blobs.write_bytes(b"1")
    assert published_digest(blobs) is None
    check_download(blobs)


def test_a_folder_downloaded_as_a_whole_is_checked_until_a_file_is_changed(tmp_path):
    path = tmp_path / "weights" / "model.ckpt"
    note = tmp_path / ".cache/huggingface/download/weights/model.ckpt.metadata"
    for file in (path, note):
        file.parent.mkdir(parents=True)
    path.write_bytes(b"whole")
    digest = hashlib.sha256(b"whole").hexdigest()
    note.write_text(f"{'a' * 40}\n{digest}\n{path.stat().st_mtime}\n")
    check_download(path)
    written = path.stat().st_mtime
    path.write_bytes(b"whale")
    os.utime(path, (written, written))
    with pytest.raises(ValueError, match="download is damaged"):
        check_download(path)
    os.utime(path, (written + 60, written + 60))
    check_download(path)  # edited on purpose


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"x": torch.arange(4096.0)}, path)
    return path


def _weights(path):
    """Return where the numbers begin in the file."""
    return path.read_bytes().index(torch.arange(4096.0).numpy().tobytes())


@pytest.mark.parametrize("damage", ["one bit", "a hole"])
def test_damage_inside_a_file_of_pytorch_is_found(saved, damage):
    check_checksums(saved)
    content, start = bytearray(saved.read_bytes()), _weights(saved)
    if damage == "one bit":
        content[start + 2000] ^= 0x40
    else:
        content[start + 1000 : start + 9000] = bytes(8000)
    saved.write_bytes(content)
    assert torch.load(saved, mmap=True)["x"].isfinite().all()  # PyTorch itself does not notice
    with pytest.raises(ValueError, match=r"Bad CRC-32.* it is damaged; copy it or download"):
        check_checksums(saved)


def test_a_file_that_was_saved_without_checksums_passes(tmp_path):
    torch.serialization.set_crc32_options(compute_crc32=False)
    try:
        torch.save({"x": torch.arange(8.0)}, tmp_path / "model.ckpt")
    finally:
        torch.serialization.set_crc32_options(compute_crc32=True)
    check_checksums(tmp_path / "model.ckpt")


def test_a_file_that_was_compressed_again_is_refused(saved, tmp_path):
    packed = tmp_path / "packed.ckpt"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    with pytest.raises(ValueError, match="compressed or overlapping members"):
        check_checksums(packed)
