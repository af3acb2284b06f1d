"""Convert a published checkpoint to this project's format: smaller, checked, with a card."""

from v2w_gym.configs.published import ConvertConfig

SCHEMA = ConvertConfig
ARGUMENTS = ("checkpoint", "output")


def main(cfg: ConvertConfig) -> None:
    """Convert the checkpoint, then print what was written and how to use it."""
    from v2w_gym.world_models.checkpoint import read_card
    from v2w_gym.world_models.loading import find_checkpoint
    from v2w_gym.world_models.vid2world.published.convert import convert

    output = convert(cfg, find_checkpoint(cfg.checkpoint))
    size = output.stat().st_size / 1e9
    print(f"wrote {output} ({size:.2f} GB) and its card {output.with_suffix('.json')}")
    origin = (read_card(output) or {})["provenance"]
    print(f"  the weights are {origin['weights']}")
    if origin["other_weights"]:
        print(
            f"  others are in {', '.join(origin['other_weights'])}; choose with averaged=true|false"
        )
    print(f"  checkpoint={output} makes it the world model of any command or environment")
