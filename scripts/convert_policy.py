"""Turn the TensorFlow SavedModel of an RT-1 policy into a checkpoint that PyTorch runs."""

from pathlib import Path

from v2w_gym.configs.convert import ConvertPolicyConfig

SCHEMA = ConvertPolicyConfig
ARGUMENTS = ("source", "output")


def main(cfg: ConvertPolicyConfig) -> None:
    """Convert, and say what was checked and what was not."""
    from v2w_gym.policies.rt1.convert import convert

    print("\n".join(summary(convert(cfg))))


def summary(output: Path) -> list[str]:
    """Return what is told of a converted policy, line by line."""
    from v2w_gym.world_models.checkpoint import read_card

    card = read_card(output) or {}
    size = output.stat().st_size / 1e6
    lines = [
        f"wrote {output} ({size:.1f} MB) and its card {output.with_suffix('.json')}",
        f"  {card['parameters']:,} parameters, training step {card['train_step']}",
        *(f"  {subject.replace('_', ' ')}: {found}" for subject, found in card["checks"].items()),
    ]
    if not card["instructions"]:
        lines.append("  it knows no instructions: give it a table, which v2w embed makes")
    return lines
