"""Check whether a world model is good enough to rank policies with."""

from v2w_gym.configs.evaluate import GateConfig
from v2w_gym.evaluation.gate.gate import run_gate, to_markdown

SCHEMA = GateConfig


def main(cfg: GateConfig) -> bool:
    """Run the gate, print its results, and return whether it passed."""
    result = run_gate(cfg)
    print(to_markdown(result))
    print(f"written to {cfg.output}")
    return result.passed
