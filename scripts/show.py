"""Show what is in recorded data: numbers, pictures, and signs of wrong units or shifted actions."""

from v2w_gym.configs.data import ShowConfig

SCHEMA = ShowConfig
ARGUMENTS = ("source",)


def main(cfg: ShowConfig) -> None:
    """Print the summary and the names of the pictures."""
    from v2w_gym.evaluation.data.show import show
    from v2w_gym.evaluation.data.writing import to_json, to_text

    summary, pictures = show(cfg)
    if cfg.json:
        print(to_json(summary, pictures))
        return
    print(to_text(summary))
    for path in pictures:
        print(f"  {path}")
