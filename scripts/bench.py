"""Measure what a step of the environment costs next to a naive one, once they are found equal."""

from v2w_gym.configs.checks import BenchConfig

SCHEMA = BenchConfig
ARGUMENTS = ("what",)


def main(cfg: BenchConfig) -> bool:
    """Print what was found, and return whether steps are exact; if not, no speed is printed."""
    from v2w_gym.evaluation.checks.bench.report import to_json, to_text
    from v2w_gym.evaluation.checks.bench.run import run_bench

    report = run_bench(cfg)
    print(to_json(report) if cfg.json else to_text(report))
    return report.exact.passed
