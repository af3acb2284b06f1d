"""Rank policies in a world model and compare with trials on the robot; the same command resumes."""

from configs.evaluate import RankConfig

SCHEMA = RankConfig


def main(cfg: RankConfig) -> None:
    """Run the rollouts, and say where the report is."""
    from evaluation.rollout import rank

    comparison = rank(cfg)
    print(f"{len(comparison.policies)} policies compared on {', '.join(comparison.tasks)}")
    for name in ("report.html", "success_rates.png", "scatter.png"):
        print(f"  {cfg.output}/{name}")
