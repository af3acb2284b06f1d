"""The choice of a world model and its sampler, for environments, commands and Python alike."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from v2w_gym.configs.names import hint
from v2w_gym.configs.rules import OneOf, PathText, Window
from v2w_gym.configs.sampler import PRESET_NAMES, SamplerSettings
from v2w_gym.configs.values import Settings


@dataclass(frozen=True)
class WorldModelSettings(Settings):
    """The choice of a world model, and of the way to run it.

    Attributes:
        checkpoint: World model: a file, a folder with one, or a hub id owner/name; null is the
            bundled one.
        preset: Sampler settings by name: draft, standard, faithful, clean or reference; null is
            the checkpoint's own.
        sampler: Changes to single sampler settings, such as sampler.steps=10.
        window: Most frames that the world model attends to; null is the checkpoint's own.
        context_frames: Recorded frames that a rollout begins with; null is the checkpoint's own.
        device: Device of the network, such as cuda.
        dtype: Precision of the network: float32 or bfloat16. Null is float32 on a CPU, and the
            checkpoint's own on a GPU. The autoencoder always computes in float32.
    """

    checkpoint: PathText | None = None
    preset: Annotated[str, OneOf(PRESET_NAMES)] | None = None
    sampler: SamplerSettings = field(default_factory=dict)
    window: Window | None = None
    context_frames: Window | None = None
    device: str = "cpu"
    dtype: Literal["float32", "bfloat16"] | None = None


def world_model_settings(
    given: Mapping[str, Any], caller: Callable[..., Any]
) -> WorldModelSettings:
    """Return the settings in keyword arguments; None keeps the default.

    Args:
        given: Fields of `WorldModelSettings` by name.
        caller: The function that received them, to name in the message about an unknown name.

    Raises:
        TypeError: An unknown name.
        ValueError: A value of another type or out of range.
    """
    known = [setting.name for setting in fields(WorldModelSettings)]
    named = [name for name in inspect.signature(caller).parameters if name not in known]
    for name in given:
        if name not in known:
            raise TypeError(
                f"{caller.__name__} got an unexpected argument {name!r}"
                f"{hint(name, [*named, *known])} (a world model is chosen by {', '.join(known)})"
            )
    return WorldModelSettings(**{name: v for name, v in given.items() if v is not None})
