"""Rank policies in a world model and compare with trials on the robot; the same command resumes."""

from configs.evaluate import RankConfig

SCHEMA = RankConfig


def main(cfg: RankConfig) -> None:
    """Run the rollouts, and say where the report is."""
    from evaluation.rollout import rank
    from evaluation.verdict import headline

    comparison = rank(cfg)
    print(headline(comparison))
    for note in comparison.notes:
        print(f"  note: {note}")
    for name in ("report.html", "success_rates.png", "scatter.png"):
        print(f"  {cfg.output}/{name}")
