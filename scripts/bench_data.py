"""Measure how fast training clips are loaded, compared with the bare decoding of their pictures."""

from v2w_gym.configs.checks import DataBenchConfig

SCHEMA = DataBenchConfig
ARGUMENTS = ("data",)


def main(cfg: DataBenchConfig) -> bool:
    """Print what was found, and return whether all processes read the same batches."""
    import json

    from v2w_gym.evaluation.checks.bench.loading import run_data_bench, to_text

    report = run_data_bench(cfg)
    print(json.dumps(report, indent=2, allow_nan=False) if cfg.json else to_text(report))
    exact: bool = report["exact"]
    return exact
