"""Recording: the content of an episode; a repeated command keeps existing episodes."""

import numpy as np
import pytest

from v2w_gym.configs.train import CollectConfig
from v2w_gym.standin.collect import collect, episode_path, record_episode
from v2w_gym.standin.env import StandinEnv
from v2w_gym.world_models.data.labelled import list_labelled, load_labelled

pytestmark = pytest.mark.filterwarnings("ignore:Constant.s. may be too high")


def test_an_episode_replays(metaworld):
    """Its actions, taken again from its seed, give its frames; its labels are the expert's."""
    env = StandinEnv("close_drawer")
    episode = record_episode(env, "expert", 5)
    assert episode.frames.shape == (21, 64, 64, 3) and episode.actions.shape == (20, 13)
    np.testing.assert_array_equal(env.reset(seed=5)[0], episode.frames[0])
    for step in range(2):
        frame = env.step(episode.actions[step])[0]
        np.testing.assert_array_equal(frame, episode.frames[step + 1])
    assert not episode.success[0] and episode.success[-1]
    openings = episode.state["opening"]
    assert openings.shape == (21,) and openings[0] > 0.1 > 0.03 >= openings[-1]
    assert episode.state["hand"].shape == episode.state["handle"].shape == (21, 3)
    assert episode.state["handle"][-1, 1] - episode.state["handle"][0, 1] > 0.1  # pushed away
    motion = env.robot.slices["world_vector"]
    np.testing.assert_array_equal(episode.actions[0, motion], episode.expert_actions[0, motion])


def test_collect_records_each_episode_once(tmp_path, metaworld):
    cfg = CollectConfig(
        output=str(tmp_path),
        tasks=["close_drawer"],
        episodes=2,
        first_seed=40,
        behaviours={"random_walk": 1.0},
        workers=1,
    )
    kept = episode_path(tmp_path, "close_drawer", 41)
    kept.parent.mkdir()
    kept.write_bytes(b"recorded before")
    collect(cfg)
    assert list_labelled([tmp_path]) == [episode_path(tmp_path, "close_drawer", 40), kept]
    assert kept.read_bytes() == b"recorded before"
    episode = load_labelled(episode_path(tmp_path, "close_drawer", 40))
    assert (episode.seed, episode.behaviour, episode.task) == (40, "random_walk", "close_drawer")
    assert episode.instruction == "close the drawer"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"tasks": ["close_drawr"]}, "did you mean 'close_drawer'"),
        ({"behaviours": {"expert": 0.5}}, "sum to 1"),
    ],
)
def test_wrong_settings_record_nothing(tmp_path, change, text):
    with pytest.raises(ValueError, match=text):
        collect(CollectConfig(**{"output": str(tmp_path / "new"), **change}))
    assert not (tmp_path / "new").exists()
