"""Check that a converted policy chooses what the SavedModel chooses that it was made from."""

import sys

from configs.verify_policy import VerifyPolicyConfig

SCHEMA = VerifyPolicyConfig
ARGUMENTS = ("converted", "saved_model")


def main(cfg: VerifyPolicyConfig) -> None:
    """Run both, print where they agree, and exit with status 1 unless they do everywhere."""
    from evaluation.agreement import to_table, verify_policy

    result = verify_policy(cfg)
    print(to_table(result))
    print(f"written to {cfg.output}")
    if not result.passed:
        sys.exit(1)
