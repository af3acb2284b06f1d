"""Check that a converted policy chooses the same actions as its SavedModel."""

from v2w_gym.configs.convert import VerifyPolicyConfig

SCHEMA = VerifyPolicyConfig
ARGUMENTS = ("converted", "saved_model")


def main(cfg: VerifyPolicyConfig) -> bool:
    """Run both policies, print how often they agree, and return whether they always do."""
    from v2w_gym.evaluation.checks.converted import to_table, verify_policy

    result = verify_policy(cfg)
    print(to_table(result))
    print(f"written to {cfg.output}")
    return result.passed
