"""Measure the speed of environment steps, after a check that cached and uncached steps agree."""

from v2w_gym.configs.checks import BenchConfig

SCHEMA = BenchConfig
ARGUMENTS = ("what",)


def main(cfg: BenchConfig) -> bool:
    """Print the report, and return whether steps are exact; without that, no speed is printed."""
    from v2w_gym.evaluation.checks.bench.bench import run_bench, to_json, to_text

    report = run_bench(cfg)
    print(to_json(report) if cfg.json else to_text(report))
    passed: bool = report["exact"]["passed"]
    return passed
