"""Some episodes of a source, by name."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from v2w_gym.world_models.data.episode import Episode
from v2w_gym.world_models.data.sources.base import Source
from v2w_gym.world_models.data.sources.selection import load_ids, select

NAMES = [f"train_eps_{number:08d}" for number in range(7)]


class Listed:
    """Episodes of one black frame, and a log of what was read."""

    name = "listed"
    files = (Path("a.npz"),)

    def __init__(self) -> None:
        self.reads: list[tuple[int, int | None]] = []

    def __len__(self) -> int:
        return len(NAMES)

    def ids(self) -> list[str]:
        return NAMES

    def read(self, start: int = 0, stop: int | None = None) -> Iterator[Episode]:
        self.reads.append((start, stop))
        for name in NAMES[start:stop]:
            yield Episode(name, np.zeros((1, 4, 4, 3), np.uint8))


def numbers(source: Source, *bounds: int) -> list[int]:
    return [int(episode.id[-8:]) for episode in source.read(*bounds)]


def test_only_and_all_but_the_episodes_of_a_list():
    source = Listed()
    held_out = [NAMES[5], NAMES[1], NAMES[4]]
    only, others = select(source, ids=held_out), select(source, excluded=held_out)
    assert numbers(only) == [1, 4, 5]
    assert numbers(others) == [0, 2, 3, 6]
    assert only.ids() == [NAMES[1], NAMES[4], NAMES[5]]
    assert (len(only), only.name, only.files) == (3, "listed, 3 of 7 episodes", source.files)
    assert numbers(select(source, ids=held_out, excluded=[NAMES[4]])) == [1, 5]
    assert select(source) is source


def test_reading_begins_and_ends_anywhere_and_neighbours_are_read_together():
    source = Listed()
    chosen = select(source, excluded=[NAMES[3]])
    assert numbers(chosen, 2) == [2, 4, 5, 6]
    assert source.reads == [(2, 3), (4, 7)]
    assert numbers(chosen, 1, 4) == [1, 2, 4]
    assert numbers(chosen, 6) == []


def test_names_come_from_json_files_with_folders_and_endings(tmp_path):
    path = tmp_path / "val_file_list.json"
    path.write_text(json.dumps([f"{NAMES[2]}.npz", f"rt1/{NAMES[0]}.npz"]))
    assert numbers(select(Listed(), ids=load_ids([str(path), NAMES[6]]))) == [0, 2, 6]


def test_names_come_from_text_files_and_manifests_of_starts(tmp_path):
    lines, manifest = tmp_path / "names.txt", tmp_path / "starts.json"
    lines.write_text(f"{NAMES[3]}\n\n{NAMES[1]}\n")
    manifest.write_text(json.dumps({"starts": [{"id": NAMES[5], "frame": 0}]}))
    assert load_ids([str(lines), str(manifest)]) == [NAMES[3], NAMES[1], NAMES[5]]


def test_names_that_the_source_lacks_and_nothing_left():
    with pytest.raises(ValueError, match=r"of listed, found 'train_eps_9.npz'; did you mean"):
        select(Listed(), excluded=["train_eps_9.npz"])
    with pytest.raises(ValueError, match="found none of its 7; exclude fewer"):
        select(Listed(), excluded=NAMES)


def test_episodes_with_one_name_cannot_be_told_apart(monkeypatch):
    source = Listed()
    monkeypatch.setattr(source, "ids", lambda: [*NAMES[:6], NAMES[0]])
    with pytest.raises(ValueError, match=r"its own name, found 'train_eps_00000000' twice"):
        select(source, ids=[NAMES[1]])


@pytest.mark.parametrize("text", ["{", "{}", "[]", "[1]"])
def test_files_that_are_no_list_of_names(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"a list of episode names in .*a\.json"):
        load_ids([str(path)])
    with pytest.raises(FileNotFoundError, match="no file"):
        load_ids([str(tmp_path / "b.json")])
