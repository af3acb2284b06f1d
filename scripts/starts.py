"""Take start frames from recorded data: a start file, a manifest and a contact sheet."""

from v2w_gym.configs.data import StartsConfig

SCHEMA = StartsConfig
ARGUMENTS = ("source", "output")


def main(cfg: StartsConfig) -> None:
    """Write the files, then print their names."""
    from v2w_gym.evaluation.starts.taking import describe_count, paths_of, take_starts

    print(describe_count(take_starts(cfg)))
    for path in vars(paths_of(cfg.output)).values():
        print(f"  {path}")
