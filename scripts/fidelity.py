"""Measure how much faster sampling changes imagined videos; the same command resumes."""

from v2w_gym.configs.checks import FidelityConfig

SCHEMA = FidelityConfig


def main(cfg: FidelityConfig) -> None:
    """Run the comparison, then print the results and their files."""
    from v2w_gym.evaluation.checks.fidelity.fidelity import run_fidelity
    from v2w_gym.evaluation.checks.fidelity.report import to_markdown

    print(to_markdown(run_fidelity(cfg)))
    for name in ("fidelity.md", "fidelity.json", "fidelity.png", "strip.png"):
        print(f"  {cfg.output}/{name}")
