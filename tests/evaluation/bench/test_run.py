"""A whole benchmark of a tiny model: what is in the report, and when nothing is."""

import json
from dataclasses import replace

import pytest

from configs.bench import BenchConfig
from evaluation.bench import run
from evaluation.bench.report import to_json, to_text
from evaluation.bench.run import run_bench
from world_models import replay, solvers

TINY = BenchConfig(
    size="tiny", window=4, nums=[1, 2], steps=[1, 2], repeats=1, latency=2, horizon=False
)


@pytest.fixture
def fast(monkeypatch):
    """Compare where something changes only."""
    monkeypatch.setattr(
        run,
        "check_agreement",
        lambda *args, check=run.check_agreement, **chosen: check(
            *args, **{**chosen, "quick": True}
        ),
    )


def test_a_report_has_every_part(fast, tmp_path) -> None:
    output = tmp_path / "folder" / "bench.json"
    report = run_bench(replace(TINY, horizon=True, output=str(output)))
    assert report.exact.passed
    cells = {(cell.semantics, cell.num_envs, cell.steps): cell for cell in report.cells}
    assert list(cells) == [
        (name, num, steps) for num in (1, 2) for steps in (1, 2) for name in ("rolling", "window")
    ]
    for (name, num, steps), cell in cells.items():
        assert cell.frame_forwards == 2 * steps + (1 if name == "rolling" else 3)
        assert cell.naive_frame_forwards == 2 * steps * 4
        assert cell.ratio == cell.naive_seconds / cell.seconds > 0
        assert cell.env_frames_per_second == num / cell.seconds
        assert 0 < cell.flops < cell.naive_flops
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
    assert [cell.frame_forwards for cell in report.cells] == [2 * 2 + 3, 2 * 2 * 4]


def test_half_precision_is_checked_before_it_is_timed(fast, monkeypatch) -> None:
    half = replace(TINY, nums=[1], steps=[1], semantics=["rolling"], precision="bfloat16")
    report = run_bench(half)
    assert [found.passed for found in report.exact.roundings] == [True]
    assert report.subject.precision == "bfloat16"
    assert report.cells
    monkeypatch.setattr(
        run, "check_rounding", lambda *args: run.Rounding("rolling", 2.0, 1.0, passed=False)
    )
    report = run_bench(half)
    assert not report.exact.passed
    assert not report.cells


def test_quick_is_one_and_eight_environments_at_ten_steps(monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(run, "_measure", lambda cfg, *rest: asked.append(cfg))
    run_bench(replace(TINY, quick=True, nums=[3], steps=[50], horizon=True))
    assert (asked[0].nums, asked[0].steps, asked[0].horizon) == ([1, 8], [10], False)


def test_nothing_stays_changed_in_the_process(fast) -> None:
    before = dict(replay.RECORD_AFTER), dict(solvers.SOLVERS)
    run_bench(replace(TINY, nums=[1], steps=[1], semantics=["rolling"]))
    assert before == (replay.RECORD_AFTER, solvers.SOLVERS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"what": "stp"}, "expected what to be one of .* did you mean 'step'"),
        ({"semantics": ["rollin"]}, "expected semantics to be one of .* did you mean 'rolling'"),
        ({"semantics": []}, "expected at least one value of semantics, found none"),
        ({"nums": [4, 0]}, "expected nums >= 1, found"),
        ({"nums": []}, "expected at least one value of nums, found none"),
        ({"steps": [0]}, "expected steps from 1 to 1000, found"),
        ({"steps": [1001]}, "expected steps from 1 to 1000, found"),
        ({"repeats": 0}, "expected repeats >= 1, found 0"),
        ({"latency": 0}, "expected latency >= 1, found 0"),
        ({"threads": 0}, "expected threads >= 1, found 0"),
        ({"window": 3}, "expected window >= 4, found 3"),
        ({"precision": "float16"}, "expected precision to be one of"),
    ],
)
def test_a_setting_out_of_range_is_refused_at_once(changed, message) -> None:
    with pytest.raises(ValueError, match=message):
        run_bench(replace(TINY, **changed))
