"""The starts of Vid2World's published evaluations, by robot."""

import random
from collections.abc import Callable, Mapping, Sequence

from v2w_gym.world_models.data.sources import csgo, recon
from v2w_gym.world_models.data.starts.places import Facts, Place

RT1_HELD_OUT = 4361
"""Episodes in Vid2World's `val_file_list.json`."""
RT1_FRAMES, RT1_STARTS = 16, 1024
"""Fewest frames of an episode in the evaluation on RT-1 data, and its number of episodes."""


def draw_rt1(episodes: Sequence[Facts]) -> list[Place]:
    """Draw 1,024 of the held-out episodes of RT-1. Which frame they begin with is left open.

    Source: Vid2World's RT-1 test set: names sorted, episodes of 16 frames or more kept,
    `random.seed(0)`, `random.sample`. The official frame numbers come from a salted hash, so they
    cannot be repeated.

    Raises:
        ValueError: Other episodes than those held out.
    """
    if len(episodes) != RT1_HELD_OUT:
        raise ValueError(
            f"expected the {RT1_HELD_OUT:,} held-out episodes of RT-1 for choose=published, found "
            f"{len(episodes):,}; name them with ids=[val_file_list.json], Vid2World's list"
        )
    long = [e for e in sorted(episodes, key=lambda e: e.id) if e.length >= RT1_FRAMES]
    return [Place(episode) for episode in random.Random(0).sample(long, RT1_STARTS)]


def list_csgo(episodes: Sequence[Facts]) -> list[Place]:
    """Return the published starts, whose clips begin with `csgo.CONTEXT` known frames."""
    by_id = {episode.id: episode for episode in episodes}
    starts = csgo.published_starts(list(by_id))
    return [Place(by_id[name], first + csgo.CONTEXT - 1) for name, first in starts]


def list_recon(episodes: Sequence[Facts]) -> list[Place]:
    """Return the starts of NWM's test clips, which the source has cut already."""
    others = [episode for episode in episodes if episode.length != recon.CLIP]
    if others:
        raise ValueError(
            f"expected test clips of {recon.CLIP} frames, as in recon:time.pkl, for "
            f"choose=published, found {others[0].length} frames in {others[0].id!r}"
        )
    return [Place(episode, recon.BEFORE) for episode in episodes]


PUBLISHED: Mapping[str, Callable[[Sequence[Facts]], list[Place]]] = {
    "google_robot": draw_rt1,
    "csgo_player": list_csgo,
    "recon_jackal": list_recon,
}
"""Robot -> the starts of Vid2World's published evaluation, in its order."""
