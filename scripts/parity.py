"""Hold this implementation against golden tensors of the published one."""

from v2w_gym.configs.checks import ParityConfig

SCHEMA = ParityConfig
ARGUMENTS = ("folder",)


def main(cfg: ParityConfig) -> bool:
    """Run every case in the folder, print one line each, and return whether all pass."""
    from pathlib import Path

    import torch

    from v2w_gym.evaluation.checks.parity.run import run_parity

    torch.set_num_threads(cfg.threads)
    passed = []
    for result in run_parity(Path(cfg.folder)):
        print(result, flush=True)
        passed.append(result.passed)
    print(f"{sum(passed)} of {len(passed)} cases pass")
    return all(passed)
