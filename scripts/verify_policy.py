"""Check that a converted policy chooses what the SavedModel chooses that it was made from."""

from v2w_gym.configs.convert import VerifyPolicyConfig

SCHEMA = VerifyPolicyConfig
ARGUMENTS = ("converted", "saved_model")


def main(cfg: VerifyPolicyConfig) -> bool:
    """Run both, print where they agree, and return whether they do everywhere."""
    from v2w_gym.evaluation.checks.converted import to_table, verify_policy

    result = verify_policy(cfg)
    print(to_table(result))
    print(f"written to {cfg.output}")
    return result.passed
