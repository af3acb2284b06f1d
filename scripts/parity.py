"""Hold this implementation against golden tensors of the published one."""

import sys

from configs.parity import ParityConfig

SCHEMA = ParityConfig
ARGUMENTS = ("folder",)


def main(cfg: ParityConfig) -> None:
    """Run every case in the folder, one line each; exit with status 1 unless all pass."""
    from pathlib import Path

    import torch

    from evaluation.parity.run import run_parity

    if cfg.threads < 1:
        raise ValueError(f"expected threads >= 1, found {cfg.threads}")
    torch.set_num_threads(cfg.threads)
    passed = []
    for result in run_parity(Path(cfg.folder)):
        print(result, flush=True)
        passed.append(result.passed)
    print(f"{sum(passed)} of {len(passed)} cases pass")
    if not all(passed):
        sys.exit(1)
