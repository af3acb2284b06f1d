"""Check whether a world model is good enough to rank policies with."""

import sys

from configs.gate import GateConfig
from evaluation.gate import run_gate, to_markdown

SCHEMA = GateConfig


def main(cfg: GateConfig) -> None:
    """Run the gate, print what it found, and exit with status 1 if it is not passed."""
    result = run_gate(cfg)
    print(to_markdown(result))
    print(f"written to {cfg.output}")
    if not result.passed:
        sys.exit(1)
