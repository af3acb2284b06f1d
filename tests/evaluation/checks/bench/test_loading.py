"""The benchmark of loading: what is in its report, and that nothing is timed unless it is exact."""

import json
from dataclasses import replace

import numpy as np
import pytest

from v2w_gym.configs.checks import DataBenchConfig
from v2w_gym.configs.data import PrepareConfig
from v2w_gym.evaluation.checks.bench import loading
from v2w_gym.evaluation.checks.bench.loading import run_data_bench, to_text
from v2w_gym.evaluation.checks.bench.recordings import RandomEpisodes
from v2w_gym.scripts import cli
from v2w_gym.world_models.data.preparing.prepare import prepare_source


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> DataBenchConfig:
    """Return a benchmark of few small episodes."""
    folder = str(tmp_path_factory.mktemp("prepared") / "data")
    settings = PrepareConfig(
        source=".", output=folder, robot="google_robot", pictures="jpeg", workers=1
    )
    prepare_source(RandomEpisodes(episodes=3, length=6), settings)
    return DataBenchConfig(folder, batch_size=2, clip_frames=4, batches=4, rounds=1)


def test_json_has_a_row_for_recorded_placed_and_augmented_clips(small, capsys) -> None:
    words = [small.data, "batch_size=2", "clip_frames=4", "batches=4", "rounds=1", "--json"]
    assert cli.main(["bench", "data", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["what"] == "data" and found["exact"] is True
    assert (found["subject"]["episodes"], found["subject"]["frames"]) == (3, 18)
    rows = [row["clips"] for row in found["rows"]]
    assert rows == ["as recorded", "on canvas", "on canvas, augmented"]
    for row in found["rows"]:
        assert row["lowest_ratio"] <= row["ratio"] <= row["highest_ratio"]
        assert row["ratio"] == row["clips_per_second"] / row["bare_clips_per_second"] > 0
        assert min(row["processor_ms"], row["bare_processor_ms"], row["first_batch_seconds"]) > 0
        assert row["worker_mb"] is None or 1 < row["worker_mb"] < 4000
    assert "bare_clips_per_second" in to_text(found)


def test_no_speed_is_reported_unless_all_processes_read_the_same(small, monkeypatch) -> None:
    monkeypatch.setattr(loading, "_equal", lambda one, other: False)
    report = run_data_bench(small)
    assert report["exact"] is False and report["rows"] == []
    assert "no speed is reported" in to_text(report)


def test_without_data_the_benchmark_makes_some(monkeypatch) -> None:
    monkeypatch.setattr(loading, "RandomEpisodes", lambda: RandomEpisodes(episodes=1, length=5))
    monkeypatch.setattr(loading, "measure", lambda *given: [])
    found = run_data_bench(DataBenchConfig(clip_frames=4, batches=4))
    assert found["subject"]["data"] == "random episodes" and found["subject"]["frames"] == 5


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batches": 4, "workers": 5}, "more batches than workers, found 4 and 5; set batches=20"),
        ({"clip_frames": 7}, "expected episodes of at least 7 frames, found 3 of at most 6"),
    ],
)
def test_impossible_settings_are_refused_at_once(small, changed, message) -> None:
    with pytest.raises(ValueError, match=message):
        run_data_bench(replace(small, **changed))


def test_random_episodes_are_the_same_in_every_run_and_move() -> None:
    source = RandomEpisodes(episodes=3, length=4)
    one, two = list(source.read(1)), list(source.read())
    assert [episode.id for episode in two] == source.ids()
    np.testing.assert_array_equal(one[0].frames, two[1].frames)
    assert one[0].frames.shape == (4, 256, 320, 3) and (one[0].frames[0] != one[0].frames[1]).any()
    source.robot.check_actions(one[0].actions)
