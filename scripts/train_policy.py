"""Train an RT-1 policy on demonstrations; the same command resumes."""

from v2w_gym.configs.train import TrainPolicyConfig

SCHEMA = TrainPolicyConfig


def main(cfg: TrainPolicyConfig) -> None:
    """Train the policy, then print the checkpoints' paths."""
    from v2w_gym.policies.rt1.training import train

    for checkpoint in train(cfg):
        print(checkpoint)
