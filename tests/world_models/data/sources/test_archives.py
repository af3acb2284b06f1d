"""Episodes in .npz files: two layouts, read as far as they are wanted."""

import json

import numpy as np
import pytest

from v2w_gym.world_models.data.sources.archives import read_archive

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), np.uint8)
ACTIONS = np.random.default_rng(1).normal(size=(5, 13)).astype(np.float32)
META = {
    "format": "v2w-episode-1",
    "robot": "standin_sawyer",
    "task": "close_drawer",
    "instruction": "close the drawer",
    "behaviour": "expert",
    "seed": 3,
}


def ours(path, **changes):
    """Save an episode by hand, some parts changed; None leaves one out."""
    parts = {
        "meta": np.array(json.dumps(META)),
        "frames": FRAMES,
        "actions": ACTIONS[:-1],
        **changes,
    }
    np.savez(path, **{name: value for name, value in parts.items() if value is not None})


@pytest.mark.parametrize(
    "steps",
    [
        *(slice(None), slice(1), slice(9), slice(2, 4), slice(3, 3), slice(None, None, -2)),
        *(np.array([4, 0, 4]), np.array([-1]), np.array([], np.int64)),
    ],
    ids=str,
)
def test_some_frames_and_the_actions_between_all(tmp_path, steps):
    ours(tmp_path / "ours.npz")
    np.savez(tmp_path / "converted.npz", image=FRAMES, action=ACTIONS)
    one, two = (read_archive(tmp_path / f"{name}.npz", "") for name in ("ours", "converted"))
    for found in (one, two):
        assert len(found) == 5
        np.testing.assert_array_equal(found.frames[steps], FRAMES[steps])
        np.testing.assert_array_equal(found.actions, ACTIONS[:-1])
    assert (one.robot, one.task) == ("standin_sawyer", "close_drawer")
    assert (two.robot, two.task) == (None, None)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"meta": np.array("[1]")}, "does not name the format v2w-episode-1"),
        ({"meta": np.array("{")}, "Expecting property name"),
        ({"meta": np.array(3)}, r"`meta` \(\) of int64, not JSON text"),
        ({"meta": np.array(["{}"])}, r"`meta` \(1,\)"),
        ({"meta": np.array("[" * 100_000)}, "recursion"),
        ({"meta": np.array(json.dumps({**META, "task": ["a"]}))}, "a list as task, not str"),
        ({"meta": np.array(json.dumps({**META, "robot": None}))}, "a NoneType as robot"),
        ({"meta": np.array(json.dumps({**META, "seed": True}))}, "a bool as seed, not int"),
        ({"meta": np.array(json.dumps({**META, "seed": -1}))}, "seed -1 .* from 0 to"),
        ({"frames": FRAMES.astype(np.int64)}, r"int64 \(5, 8, 6, 3\), not uint8 frames"),
        ({"frames": FRAMES.transpose(0, 3, 1, 2)}, r"\(5, 3, 8, 6\), not uint8 frames"),
        ({"frames": np.array(0, np.uint8)}, r"uint8 \(\), not uint8 frames"),
        ({"frames": FRAMES[:0]}, "with T > 0"),
        ({"frames": None}, "no frames among the arrays"),
        ({"actions": ACTIONS}, r"`actions` \(5, 13\) for 5 `frames`"),
        ({"actions": np.array(1.0)}, r"`actions` \(\) for"),
        ({"actions": ACTIONS[:-1].astype(str)}, r"`actions` \(4, 13\) of <U\d+, not numbers"),
        ({"actions": None}, "no actions among the arrays"),
    ],
)
def test_parts_that_lie(tmp_path, changes, found):
    ours(tmp_path / "ours.npz", **changes)
    with pytest.raises(ValueError, match=f"expected a recording at .*ours.npz, found .*{found}"):
        read_archive(tmp_path / "ours.npz", "")
