import pytest

from v2w_gym.evaluation.run_folder import open_run_folder

IDENTITY = {"model": "m1", "moves": ("+X", "-X"), "steps": None}


def test_a_folder_is_opened_again_by_the_same_run_alone(tmp_path):
    folder = open_run_folder(tmp_path / "deep" / "run", IDENTITY)
    assert open_run_folder(folder, dict(reversed(IDENTITY.items()))) == folder
    for changed in ({**IDENTITY, "steps": 3}, {**IDENTITY, "new": 1}, {"model": "m1"}):
        with pytest.raises(ValueError, match="holds another run: expected .* found .*output="):
            open_run_folder(folder, changed)
    open_run_folder(folder, IDENTITY)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="expected a folder that can be written"):
        open_run_folder(tmp_path / "file" / "run", IDENTITY)


def test_of_what_is_nested_only_the_difference_is_named(tmp_path):
    open_run_folder(tmp_path, {"policies": {"a": {"scale": 1.0, "crop": "none"}}})
    with pytest.raises(ValueError, match=r"expected policies\.a\.scale 1\.0, found 0\.5; choose"):
        open_run_folder(tmp_path, {"policies": {"a": {"scale": 0.5, "crop": "none"}}})
