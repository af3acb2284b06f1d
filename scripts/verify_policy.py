"""Check that a converted policy chooses what the SavedModel chooses that it was made from."""

from configs.verify_policy import VerifyPolicyConfig

SCHEMA = VerifyPolicyConfig
ARGUMENTS = ("converted", "saved_model")


def main(cfg: VerifyPolicyConfig) -> bool:
    """Run both, print where they agree, and return whether they do everywhere."""
    from evaluation.agreement import to_table, verify_policy

    result = verify_policy(cfg)
    print(to_table(result))
    print(f"written to {cfg.output}")
    return result.passed
