"""One episode of recorded data, by its number or id."""

import numpy as np
import pytest

from v2w_gym.world_models.data.sources.opening import open_source, read_one, split_episode

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Files of Vid2World's converter in folders; file i has i + 1 frames."""
    for i, name in enumerate(("a/train_eps_00000000", "a/train_eps_00000001", "b/own")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        np.savez(tmp_path / f"{name}.npz", image=FRAMES[: i + 1])
    return tmp_path


def test_ids_are_paths_in_the_folder(folder):
    ids = ("a/train_eps_00000000", "a/train_eps_00000001", "b/own")
    source = open_source(str(folder))
    assert source.ids() == ids == tuple(episode.id for episode in source.read())
    assert [path.suffix for path in source.files] == [".npz"] * 3
    assert [episode.id for episode in source.read(1, 2)] == [ids[1]]
    assert open_source(str(folder / "b" / "own.npz")).ids() == ("own",)


@pytest.mark.parametrize(
    ("which", "length"), [("0", 1), ("2", 3), ("a/train_eps_00000001", 2), ("b/own", 3)]
)
def test_an_episode_of_many(folder, which, length):
    assert len(read_one(f"{folder}#{which}")) == length


def test_the_only_episode_needs_no_name(folder):
    assert len(read_one(folder / "b")) == len(read_one(f"{folder}/b/own.npz#0")) == 3


def test_a_mark_in_a_name_is_no_number(tmp_path):
    np.save(tmp_path / "a#1", FRAMES)
    assert len(read_one(tmp_path / "a#1.npy")) == len(read_one(f"{tmp_path / 'a#1.npy'}#0")) == 5
    assert split_episode("a:train[:9]#own#3") == ("a:train[:9]#own", "3")
    assert split_episode("#3") == ("#3", "")


@pytest.mark.parametrize(
    ("which", "text"),
    [
        ("", "expected one episode, found 3 in .*; name one, such as '.*#0'"),
        ("#3", "expected an episode from 0 to 2 of .*, found 3"),
        ("#b/onw", "such as 'a/train_eps_00000000', found 'b/onw'; did you mean 'b/own'"),
        ("#-1", "found '-1'"),
        (":al#0", r"the split of .* to be one of \['all'\], found 'al'; did you mean 'all'"),
        (":all[:#0", "expected a split such as|nothing there"),
    ],
)
def test_no_such_episode(folder, which, text):
    with pytest.raises((ValueError, FileNotFoundError), match=text):
        read_one(f"{folder}{which}")


def test_a_part_of_the_episodes(folder):
    assert open_source(f"{folder}:all[1:]").ids() == ("a/train_eps_00000001", "b/own")
    assert len(open_source(f"{folder}:all[:2]")) == 2


@pytest.mark.parametrize("choice", [{"camera": "wrist"}, {"fields": "fields.yaml"}])
def test_files_of_a_fixed_layout_have_no_fields_and_no_camera(folder, choice):
    (folder / "fields.yaml").write_text("frames: image\n")
    choice = {name: str(folder / v) if name == "fields" else v for name, v in choice.items()}
    with pytest.raises(ValueError, match=f"expected no {next(iter(choice))} for .*leave"):
        open_source(str(folder), **choice)


def test_an_empty_text_is_not_this_folder():
    with pytest.raises(ValueError, match="expected the path of recorded data, found ''"):
        read_one("")
