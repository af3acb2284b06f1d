"""Check the card of a policy's checkpoint."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from reprlib import repr as shorten
from typing import Any

from v2w_gym.configs.robots import RobotSpec
from v2w_gym.world_models.checkpoint import check_kind
from v2w_gym.world_models.weight_files import one_line


def check_card(
    path: Path, card: Mapping[str, Any], kind: str, robot: RobotSpec, *needed: str
) -> None:
    """Check a checkpoint's kind and robot, and that its card has the `needed` entries.

    Raises:
        ValueError: Another kind or robot, or a missing entry.
    """
    check_kind(path, card, kind, "robot", *needed)
    if card["robot"] != robot.name:
        raise ValueError(
            f"expected a policy for robot {robot.name!r}, found {shorten(card['robot'])} in {path}"
        )


@contextmanager
def as_on_card(path: Path) -> Iterator[None]:
    """Name the checkpoint in errors about the network that its card describes.

    Raises:
        ValueError: The network cannot be made.
    """
    try:
        yield
    except (RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"expected the weights of the network on the card of {path}, found {one_line(error)}"
        ) from error
