"""Settings of a policy in a server: what it does not say of itself, and how it is asked."""

from dataclasses import dataclass


@dataclass(frozen=True)
class RemoteConfig:
    """How a policy server is asked. What is null is taken from what the server announces.

    Attributes:
        layout: What its actions are; a key of `configs.layouts.LAYOUTS`.
        chunk: Actions in one answer.
        image_size: Height and width of the frames it is sent; null in both places for any size.
        control_hz: Actions per second it was made for; null in both places for any rate.
        gripper: relative, absolute or none; null in both places for what the layout says.
        rotation: rpy, axis_angle or none; null in both places for what the layout says.
        image_key: Name of the frame in a request.
        prompt_key: Name of the instruction in a request.
        timeout_s: Seconds within which an answer must come; the first one may include compilation.
        reconnects: Attempts to reach a stateless server that is gone, after 0.5, 1, 2, ... seconds.
    """

    layout: str | None = None
    chunk: int | None = None
    image_size: tuple[int, int] | None = None
    control_hz: float | None = None
    gripper: str | None = None
    rotation: str | None = None
    image_key: str = "observation/image"
    prompt_key: str = "prompt"
    timeout_s: float = 120.0
    reconnects: int = 4
