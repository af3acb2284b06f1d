"""Train the success judge on recorded frames, and measure it on held-out frames."""

import json

from v2w_gym.configs.train import JudgeTrainConfig

SCHEMA = JudgeTrainConfig


def main(cfg: JudgeTrainConfig) -> None:
    """Train the judge, then print its accuracy."""
    from v2w_gym.evaluation.judges.drawer import train_judge

    judge = train_judge(cfg)
    print(json.dumps(judge.card["held_out"], indent=2))
    print(f"\njudge and card are in {cfg.output}")
