"""Rank policies in a world model and compare with trials on the robot; the same command resumes."""

from pathlib import Path

from v2w_gym.configs.evaluate import RankConfig

SCHEMA = RankConfig


def main(cfg: RankConfig) -> None:
    """Run the rollouts, then print the success rates and the report's files."""
    from v2w_gym.evaluation.compare.verdict import headline
    from v2w_gym.evaluation.compare.writing import to_table
    from v2w_gym.evaluation.rank import rank

    comparison = rank(cfg)
    print(headline(comparison))
    print(to_table(comparison))
    for note in comparison.notes:
        print(f"  note: {note}")
    for name in ("report.html", "success_rates.png", "scatter.png"):
        if Path(cfg.output, name).exists():
            print(f"  {cfg.output}/{name}")
