"""Measure the speed of environment steps, after a check that cached and uncached steps agree."""

from v2w_gym.configs.checks import BenchConfig

SCHEMA = BenchConfig
ARGUMENTS = ("what",)


def main(cfg: BenchConfig) -> bool:
    """Print what was found, and return whether steps are exact; if not, no speed is printed."""
    import json

    from v2w_gym.evaluation.checks.bench.bench import run_bench, to_text

    report = run_bench(cfg)
    print(json.dumps(report, indent=2, allow_nan=False) if cfg.json else to_text(report))
    passed: bool = report["exact"]["passed"]
    return passed
