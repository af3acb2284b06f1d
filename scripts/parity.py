"""Compare this implementation with reference test vectors of the published one."""

from v2w_gym.configs.checks import ParityConfig

SCHEMA = ParityConfig
ARGUMENTS = ("folder",)


def main(cfg: ParityConfig) -> bool:
    """Run every test vector in the folder, print one line each, and return whether all pass."""
    from pathlib import Path

    import torch

    from v2w_gym.evaluation.checks.parity.parity import run_parity

    torch.set_num_threads(cfg.threads)
    passed = []
    for result in run_parity(Path(cfg.folder)):
        print(result, flush=True)
        passed.append(result.passed)
    print(f"{sum(passed)} of {len(passed)} vectors pass")
    return all(passed)
