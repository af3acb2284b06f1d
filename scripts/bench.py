"""Measure what a step of the environment costs next to a naive one, once they are found equal."""

import sys

from configs.bench import BenchConfig

SCHEMA = BenchConfig
ARGUMENTS = ("what",)


def main(cfg: BenchConfig) -> None:
    """Print what was found; exit with status 1, and no speed, if steps are not exact."""
    from evaluation.bench.report import to_json, to_text
    from evaluation.bench.run import run_bench

    report = run_bench(cfg)
    print(to_json(report) if cfg.json else to_text(report))
    if not report.exact.passed:
        sys.exit(1)
