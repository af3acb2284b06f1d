"""Train an RT-1 policy on demonstrations; the same command resumes."""

from configs.train_policy import TrainPolicyConfig

SCHEMA = TrainPolicyConfig


def main(cfg: TrainPolicyConfig) -> None:
    """Train and say where the checkpoints are."""
    from policies.rt1.training import train

    for checkpoint in train(cfg):
        print(checkpoint)
