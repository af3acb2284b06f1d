"""Measure a step of the environment next to the naive baseline, once both are found equal."""

from v2w_gym.configs.checks import BenchConfig

SCHEMA = BenchConfig
ARGUMENTS = ("what",)


def main(cfg: BenchConfig) -> bool:
    """Print what was found, and return whether steps are exact; if not, no speed is printed."""
    from v2w_gym.evaluation.checks.bench.bench import run_bench, to_json, to_text

    report = run_bench(cfg)
    print(to_json(report) if cfg.json else to_text(report))
    passed: bool = report["exact"]["passed"]
    return passed
