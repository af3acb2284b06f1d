"""A whole benchmark of a tiny model: what is in the report, and when nothing is."""

import json
from dataclasses import replace

import pytest
import torch

from v2w_gym.configs.checks import BenchConfig
from v2w_gym.evaluation.checks.bench import bench, exactness
from v2w_gym.evaluation.checks.bench.bench import fastest, run_bench, seconds, to_text
from v2w_gym.scripts import cli

WORDS = ["size=tiny", "window=4", "latency=2", "repeats=1"]
TINY = BenchConfig(size="tiny", window=4, nums=[2], steps=[1], repeats=1, latency=2)


@pytest.mark.slow
def test_json_is_all_that_is_printed_and_has_every_part(capsys) -> None:
    words = [*WORDS, "nums=[2]", "steps=[1,2]"]
    assert cli.main(["bench", "step", "--json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["what"] == "step" and found["subject"]["latent"] == [4, 8, 8]
    assert found["exact"]["passed"] is True
    assert 0 < found["exact"]["max_relative_error"] <= found["exact"]["tolerance"] == 1e-4
    assert [(cell["num_envs"], cell["steps"], cell["semantics"]) for cell in found["cells"]] == [
        (2, steps, name) for steps in (1, 2) for name in ("rolling", "window")
    ]
    for cell in found["cells"]:
        past = {"rolling": 1, "window": 3}[cell["semantics"]]
        assert cell["frame_forwards"] == 2 * cell["steps"] + past
        assert cell["naive_frame_forwards"] == 2 * cell["steps"] * 4
        assert 0 < cell["flops"] < cell["naive_flops"]
        assert cell["ratio"] == cell["naive_seconds"] / cell["seconds"] > 0
        assert cell["env_frames_per_second"] == cell["num_envs"] / cell["seconds"]
    assert all(0 < row["p50"] <= row["p99"] and row["first"] > 0 for row in found["latency"])
    assert all(row["bytes"] > 0 for row in found["memory"])
    for part in ("latency", "memory"):
        assert [row["semantics"] for row in found[part]] == ["rolling", "window"]
    text = to_text(found)
    assert "exactness over 11 steps: passed" in text
    assert "env_frames_per_second" in text


def test_no_speed_without_exactness(capsys, monkeypatch) -> None:
    monkeypatch.setattr(exactness, "APPROXIMATE", ())
    assert cli.main(["bench", "step", "--quick", *WORDS, "semantics=[window,frozen]"]) == 1
    text = capsys.readouterr().out
    assert "FAILED: no speed is reported" in text
    assert "second" not in text
    assert "ratio" not in text


@pytest.mark.slow
def test_an_approximation_is_measured_and_does_not_pass_for_exact() -> None:
    report = run_bench(replace(TINY, semantics=["frozen", "pooled"], precision="bfloat16"))
    assert report["subject"]["precision"] == "bfloat16"
    assert report["exact"]["passed"]
    frozen, pooled = report["exact"]["agreements"]
    assert not frozen["exact"]
    assert frozen["relative_error"] > 1e-2
    assert report["exact"]["max_relative_error"] == pooled["relative_error"] < 1e-4
    assert [cell["semantics"] for cell in report["cells"]] == ["frozen", "pooled"]


def test_quick_is_one_and_eight_environments_at_ten_steps(monkeypatch) -> None:
    measured = []
    monkeypatch.setattr(bench, "measure_cells", lambda models, cfg: measured.append(cfg) or ())
    monkeypatch.setattr(bench, "measure_latency", lambda *given: {})
    run_bench(replace(TINY, quick=True, nums=[3], steps=[50]))
    (cfg,) = measured
    assert (cfg.nums, cfg.steps) == ([1, 8], [10])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"what": "stp"}, "expected one of .* did you mean 'step'"),
        ({"size": "ful"}, "expected one of .* did you mean 'full'"),
        ({"size": "full"}, "expected device=cuda for size=full, found device=cpu"),
        ({"device": "gpu"}, "expected a device that PyTorch can use here.*found 'gpu'"),
        ({"semantics": ["rollin"]}, "expected one of .* did you mean 'rolling'"),
        ({"semantics": []}, "semantics: expected at least one entry, found none"),
        ({"nums": [4, 0]}, r"expected nums\[1\] >= 1, found 0"),
        ({"nums": []}, "nums: expected at least one entry, found none"),
        ({"steps": [0]}, r"expected steps\[0\] >= 1, found 0"),
        ({"steps": [1001]}, r"expected steps\[0\] <= 1000, found 1001"),
        ({"repeats": 0}, "expected repeats >= 1, found 0"),
        ({"latency": 0}, "expected latency >= 1, found 0"),
        ({"threads": 0}, "expected threads >= 1, found 0"),
        ({"window": 3}, "expected window >= 4, found 3"),
        ({"precision": "float16"}, "expected one of"),
    ],
)
def test_a_setting_out_of_range_is_refused_at_once(changed, message) -> None:
    with pytest.raises(ValueError, match=message):
        run_bench(replace(TINY, **changed))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_ends_in_one_line(capsys) -> None:
    assert cli.main(["bench", "step", "size=full", "device=cuda"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("v2w bench: expected a device that PyTorch can use here")
    assert printed.out == ""


def test_all_take_turns_and_the_least_time_counts(monkeypatch) -> None:
    times = iter([5.0, 2.0, 3.0, 4.0, 1.0, 6.0])
    called = []

    def timed(work, device):
        work()
        return next(times)

    monkeypatch.setattr(bench, "seconds", timed)
    turn = [("naive", lambda: called.append("n"))] + [("ours", lambda: called.append("o"))] * 2
    assert fastest(turn, 2, torch.device("cpu")) == {"naive": 4.0, "ours": 1.0}
    assert called == ["n", "o", "o"] * 2


def test_processor_time_leaves_out_waiting() -> None:
    sleep, clock = bench.time.sleep, bench.time.perf_counter
    assert seconds(lambda: sleep(0.2), torch.device("cpu")) < 0.1
    assert seconds(lambda: sleep(0.2), torch.device("cpu"), clock) >= 0.2
