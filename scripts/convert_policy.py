"""Convert the TensorFlow SavedModel of an RT-1 policy to a PyTorch checkpoint."""

from pathlib import Path

from v2w_gym.configs.convert import ConvertPolicyConfig

SCHEMA = ConvertPolicyConfig
ARGUMENTS = ("source", "output")


def main(cfg: ConvertPolicyConfig) -> None:
    """Convert the policy, then print which checks were made."""
    from v2w_gym.policies.rt1.convert import convert

    print("\n".join(summary(convert(cfg))))


def summary(output: Path) -> list[str]:
    """Return the lines to print about a converted policy."""
    from v2w_gym.world_models.checkpoint import read_card

    card = read_card(output) or {}
    size = output.stat().st_size / 1e6
    lines = [
        f"wrote {output} ({size:.1f} MB) and its card {output.with_suffix('.json')}",
        f"  {card['parameters']:,} parameters, training step {card['train_step']}",
        *(f"  {subject.replace('_', ' ')}: {found}" for subject, found in card["checks"].items()),
    ]
    if not card["instructions"]:
        lines.append("  it has no instructions yet: make a table with v2w embed")
    return lines
