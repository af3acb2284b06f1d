"""Settings of a policy in a server: what it does not say of itself, and how it is asked."""

from dataclasses import dataclass
from typing import Annotated

from configs.rules import Pixels, Range, Rate
from configs.values import Settings


@dataclass(frozen=True)
class RemoteConfig(Settings):
    """How a policy server is asked. What is null is taken from what the server announces.

    Attributes:
        layout: What its actions are; a key of `configs.layouts.LAYOUTS`.
        chunk: Actions in one answer.
        image_size: Height and width of the frames it is sent; null in both places for any size.
        control_hz: Actions per second it was made for; null in both places for any rate.
        gripper: relative, absolute or none; null in both places for what the layout says.
        rotation: rpy, axis_angle or none; null in both places for what the layout says.
        stateless: Whether an answer depends on its request alone, so that one that was lost may be
            asked for again; null in both places for no.
        image_key: Name of the frame in a request.
        prompt_key: Name of the instruction in a request.
        api_key_variable: Environment variable that holds the server's API key; null for none.
        proxy: URL of the HTTP proxy on the way to the server; null for a direct connection,
            whatever proxy the environment names.
        timeout_s: Seconds within which an answer must come; the first one may include compilation.
        reconnects: Attempts to reach a stateless server that is gone, after 0.5, 1, 2, ... seconds.
        probe: Whether a server is asked about a black frame as soon as it is loaded, so that what
            is missing in a request is said before the first rollout.
    """

    layout: str | None = None
    chunk: Annotated[int, Range(1, 10_000)] | None = None
    image_size: tuple[Pixels, Pixels] | None = None
    control_hz: Rate | None = None
    gripper: str | None = None
    rotation: str | None = None
    stateless: bool | None = None
    image_key: str = "observation/image"
    prompt_key: str = "prompt"
    api_key_variable: str | None = None
    proxy: str | None = None
    timeout_s: Annotated[float, Range(0.001, 86_400)] = 120.0
    reconnects: Annotated[int, Range(0, 100)] = 4
    probe: bool = True
