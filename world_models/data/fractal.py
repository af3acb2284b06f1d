"""fractal20220817_data, RT-1's demonstrations: the features that a policy needs."""

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.robots import FRACTAL13
from v2w_gym.world_models.data.rlds import RldsEpisode

IMAGE = "observation/image"
INSTRUCTION = "observation/natural_language_instruction"
EMBEDDING = "observation/natural_language_embedding"
"""(512,) float32: the instruction's Universal Sentence Encoder vector."""


def fractal_actions(episode: RldsEpisode) -> NDArray[np.float32]:
    """Return the actions of an episode, (T, 13) float32 in the order of the layout `fractal13`.

    Raises:
        ValueError: A dataset without one of the fields, or with fields of other sizes.
    """
    names = [f"action/{name}" for name, _ in FRACTAL13.fields]
    missing = [name for name in names if name not in episode.features]
    if missing:
        raise ValueError(
            f"expected the actions of fractal20220817_data in {episode.origin}, found no "
            f"{', '.join(missing)} (there are: {', '.join(episode.features)}); actions of other "
            "datasets must be converted first"
        )
    parts = [episode.step(name) for name in names]
    for name, part, (_, size) in zip(names, parts, FRACTAL13.fields, strict=True):
        if part.shape != (len(episode), size):
            raise ValueError(
                f"expected {size} values a step in {name} of {episode.origin}, found {part.shape}"
            )
    return np.concatenate(parts, axis=1).astype(np.float32)
