"""Rank policies in a world model and compare with trials on the robot; the same command resumes."""

from pathlib import Path

from configs.evaluate import RankConfig

SCHEMA = RankConfig


def main(cfg: RankConfig) -> None:
    """Run the rollouts, print the rates, and say where the report is."""
    from evaluation.rate_table import to_table
    from evaluation.rollout import rank
    from evaluation.verdict import headline

    comparison = rank(cfg)
    print(headline(comparison))
    print(to_table(comparison))
    for note in comparison.notes:
        print(f"  note: {note}")
    for name in ("report.html", "success_rates.png", "scatter.png"):
        if Path(cfg.output, name).exists():
            print(f"  {cfg.output}/{name}")
