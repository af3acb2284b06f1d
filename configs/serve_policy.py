"""Settings of `v2w serve-policy`."""

from dataclasses import dataclass
from typing import Annotated

from configs.rules import PathText, Range
from configs.values import Settings


@dataclass(frozen=True)
class ServePolicyConfig(Settings):
    """Which policy is served, and to whom.

    Attributes:
        policy: Name, path or policy file (written policy=mine.yaml); its driver settings are
            the client's business and do not count here.
        robot: Name of the `RobotSpec` whose actions the policy gives.
        host: Address to listen at; 0.0.0.0, or :: with IPv6, lets other machines in, and nobody is
            asked for a name.
        port: Port to listen at; 0 for any that is free.
        connections: Most connections at once; each has a policy of its own.
        client_timeout_s: Seconds for which a client may leave pings unanswered, as a simulator does
            that stalls or loads; then its connection ends and its place is free.
    """

    policy: PathText
    robot: str = "standin_sawyer"
    host: str = "127.0.0.1"
    port: Annotated[int, Range(0, 65_535)] = 8000
    connections: Annotated[int, Range(1, 10_000)] = 64
    client_timeout_s: Annotated[float, Range(0.1, 1e6)] = 1800.0
