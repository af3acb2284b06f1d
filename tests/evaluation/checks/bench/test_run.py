"""A whole benchmark of a tiny model: what is in the report, and when nothing is."""

import json
from dataclasses import replace

import pytest
import torch
from v2w_gym.evaluation.checks.bench.report import to_json, to_text

from v2w_gym.configs.checks import BenchConfig
from v2w_gym.evaluation.checks.bench import run
from v2w_gym.evaluation.checks.bench.exactness import Agreement, Rounding
from v2w_gym.evaluation.checks.bench.run import run_bench

TINY = BenchConfig(
    size="tiny",
    window=4,
    nums=[1, 2],
    steps=[1, 2],
    repeats=1,
    latency=2,
    every=False,
    horizon=False,
)


def test_a_report_has_every_part(fast, tmp_path) -> None:
    output = tmp_path / "folder" / "bench.json"
    report = run_bench(replace(TINY, horizon=True, output=str(output)))
    assert report.exact.passed
    cells = {(cell.semantics, cell.num_envs, cell.steps): cell for cell in report.cells}
    assert list(cells) == [
        (name, num, steps) for num in (1, 2) for steps in (1, 2) for name in ("rolling", "window")
    ]
    for (_, num, _), cell in cells.items():
        assert (cell.frame_forwards, cell.flops) == (1, 2)
        assert (cell.naive_frame_forwards, cell.naive_flops) == (3, 4)
        assert cell.ratio == cell.naive_seconds / cell.seconds > 0
        assert cell.env_frames_per_second == num / cell.seconds
    assert [row.semantics for row in report.latency] == ["rolling", "window"]
    assert all(0 < row.p50 <= row.p99 and row.first > 0 for row in report.latency)
    assert [row.frames for row in report.horizon] == [(8, 80), (8, 80)]
    assert all(row.bytes[0] == row.bytes[1] > 0 for row in report.horizon)
    assert all(row.ratio == pytest.approx(1, abs=0.1) for row in report.memory)
    assert json.loads(output.read_text()) == json.loads(to_json(report))
    text = to_text(report)
    assert "exactness over 11 steps: passed" in text
    assert "env frames per second" in text


def test_no_speed_without_exactness(fast, monkeypatch) -> None:
    monkeypatch.setattr(run, "APPROXIMATE", ())
    report = run_bench(replace(TINY, semantics=["window", "frozen"], horizon=True))
    assert not report.exact.passed
    assert report.exact.max_relative_error > 1e-2
    assert [found.passed for found in report.exact.agreements] == [True, False]
    assert not (*report.cells, *report.latency, *report.memory, *report.horizon)
    text = to_text(report)
    assert "FAILED: no speed is reported" in text
    assert "second" not in text
    assert "ratio" not in text


def test_an_approximation_is_measured_and_does_not_pass_for_exact(fast) -> None:
    report = run_bench(replace(TINY, nums=[1], steps=[2], semantics=["frozen", "pooled"]))
    assert report.exact.passed
    frozen, pooled = report.exact.agreements
    assert not frozen.exact
    assert frozen.relative_error > 1e-2
    assert report.exact.max_relative_error == pooled.relative_error < 1e-4
    assert [cell.semantics for cell in report.cells] == ["frozen", "pooled"]


def test_half_precision_is_checked_before_it_is_timed(fast) -> None:
    half = replace(TINY, nums=[1], steps=[1], semantics=["rolling"], precision="bfloat16")
    report = run_bench(half)
    assert [found.passed for found in report.exact.roundings] == [True]
    assert report.subject.precision == "bfloat16"
    assert report.cells


def test_half_precision_that_rounds_too_much_is_not_timed(tiny, monkeypatch) -> None:
    fine = Agreement("rolling", True, 1e-6, 1e-6, passed=True)
    monkeypatch.setattr(run, "check_agreement", lambda *args, **chosen: fine)
    monkeypatch.setattr(run, "check_rounding", lambda *args: Rounding("rolling", 2.0, 1.0, False))
    found = run.check_exactness(tiny, ["rolling"], torch.bfloat16, every=False)
    assert (found.passed, found.max_relative_error) == (False, 1e-6)
    assert run.check_exactness(tiny, ["rolling"], torch.float32, every=False).passed


def test_quick_is_one_and_eight_environments_at_ten_steps(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(run, "_measure", lambda cfg, *rest: asked.append(cfg))
    run_bench(replace(TINY, quick=True, nums=[3], steps=[50], every=True, horizon=True))
    (cfg,) = asked
    assert (cfg.nums, cfg.steps, cfg.every, cfg.horizon) == ([1, 8], [10], False, False)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"what": "stp"}, "expected what to be one of .* did you mean 'step'"),
        ({"semantics": ["rollin"]}, "expected semantics to be one of .* did you mean 'rolling'"),
        ({"semantics": []}, "expected at least one value of semantics, found none"),
        ({"nums": [4, 0]}, r"expected nums\[1\] >= 1, found 0"),
        ({"nums": []}, "expected at least one value of nums, found none"),
        ({"steps": [0]}, r"expected steps\[0\] >= 1, found 0"),
        ({"steps": [1001]}, r"expected steps\[0\] <= 1000, found 1001"),
        ({"repeats": 0}, "expected repeats >= 1, found 0"),
        ({"latency": 0}, "expected latency >= 1, found 0"),
        ({"threads": 0}, "expected threads >= 1, found 0"),
        ({"window": 3}, "expected window >= 4, found 3"),
        ({"precision": "float16"}, "expected precision to be one of"),
        ({"output": "/"}, "expected output to be a file, found a folder at /"),
    ],
)
def test_a_setting_out_of_range_is_refused_at_once(changed, message) -> None:
    with pytest.raises(ValueError, match=message):
        run_bench(replace(TINY, **changed))
