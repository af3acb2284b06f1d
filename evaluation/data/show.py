"""Describe recorded data, and draw pictures of some of its episodes."""

from pathlib import Path

from v2w_gym.configs.data import ShowConfig
from v2w_gym.configs.names import lookup
from v2w_gym.configs.robots import ROBOTS
from v2w_gym.configs.text import to_path
from v2w_gym.evaluation.data.reading import read_facts
from v2w_gym.evaluation.data.summary import Summary, summarise
from v2w_gym.world_models.data.sources.selection import open_selected


def show(cfg: ShowConfig) -> tuple[Summary, list[Path]]:
    """Return the summary of recorded data, and the pictures that were written.

    Raises:
        FileNotFoundError: No such data.
        ModuleNotFoundError: The data's format needs an extra that is not installed.
        ValueError: Unknown robot, format or field, or no episode that can be read.
    """
    if cfg.robot:
        lookup(ROBOTS, cfg.robot, "robot")
    source = open_selected(cfg)
    reading = read_facts(source, cfg.episodes)
    summary = summarise(source.name, reading, cfg.robot, cfg.rate)
    if not cfg.pictured:
        return summary, []
    from v2w_gym.evaluation.data.pictures import draw_pictures  # imports matplotlib

    return summary, draw_pictures(to_path(cfg.output), reading.facts, summary, cfg.pictured)
