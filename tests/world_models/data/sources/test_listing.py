"""Lists of files: order of numbers, hidden files, links."""

from pathlib import Path

from v2w_gym.world_models.data.sources.listing import files_below, files_in, in_natural_order


def test_numbers_count_by_their_value():
    names = ["a10", "a2", "a02", "b", "a2b1", "10", "9"]
    found = in_natural_order(map(Path, names))
    assert [path.name for path in found] == ["9", "10", "a02", "a2", "a2b1", "a10", "b"]
    assert in_natural_order([Path("2/9.png"), Path("10/1.png")]) == [
        *(Path("2/9.png"), Path("10/1.png"))
    ]


def test_hidden_files_and_linked_folders_are_left_out(tmp_path):
    for name in ("a/2.PNG", "a/10.png", "a/._2.png", "a/b/1.png", "a/c.txt", "elsewhere/3.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a" / "4.png").symlink_to(tmp_path / "elsewhere" / "3.png")
    found = {path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path / "a", ".png")}
    assert found == {"a/2.PNG", "a/10.png", "a/4.png", "a/b/1.png"}
    assert [path.name for path in files_in(tmp_path / "a", ".png")] == ["2.PNG", "4.png", "10.png"]
    (tmp_path / "root").symlink_to(tmp_path / "a")
    assert len(list(files_below(tmp_path / "root"))) == 5
