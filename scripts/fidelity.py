"""Measure how much cheaper ways of sampling change what a world model imagines; it resumes."""

from v2w_gym.configs.checks import FidelityConfig

SCHEMA = FidelityConfig


def main(cfg: FidelityConfig) -> None:
    """Run the comparison, print what it found, and say where the results are."""
    from v2w_gym.evaluation.checks.fidelity.fidelity import run_fidelity
    from v2w_gym.evaluation.checks.fidelity.report import to_markdown

    print(to_markdown(run_fidelity(cfg)))
    for name in ("fidelity.md", "fidelity.json", "fidelity.png", "strip.png"):
        print(f"  {cfg.output}/{name}")
