"""Whether a world model was trained on the episodes with which rollouts begin."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

log = logging.getLogger(__name__)

TRAINING_IDS = "training_ids"
"""Entry of a card's provenance: ids of the episodes that the world model was trained on."""
SHOWN = 3
"""Most ids that a warning names."""


def trained_on(ids: Iterable[str], card: Mapping[str, Any]) -> list[str]:
    """Return those of some episodes that a world model was trained on, in order.

    Ids are compared as they are, so both must come from the same data set. None are returned if the
    card does not list any.
    """
    known = frozenset(card.get("provenance", {}).get(TRAINING_IDS, ()))
    return [name for name in ids if name in known]


def warn_of_training(ids: Iterable[str], card: Mapping[str, Any]) -> None:
    """Warn of starts from episodes that a world model was trained on."""
    ids = list(ids)
    if known := trained_on(ids, card):
        log.warning(
            "the world model was trained on the episodes of %d of %d starts, such as %s, so "
            "rollouts from there look better than from new ones; take held-out starts",
            *(len(known), len(ids), ", ".join(map(repr, known[:SHOWN]))),
        )
