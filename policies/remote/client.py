"""A policy that runs in a server: openpi's websocket protocol, one connection per slot."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from configs.layouts import LAYOUTS
from configs.lookup import lookup
from configs.remote import RemoteConfig
from policies.base import ActionBatch, PolicyMeta
from policies.checks import check_frames, check_reset
from policies.remote.channel import Channel
from policies.remote.wire import RESET_KEY, pack

Message: TypeAlias = Mapping[str, Any]

AS_ANNOUNCED = RemoteConfig()
RECONNECTED = "reconnected"


def connect(url: str, cfg: RemoteConfig = AS_ANNOUNCED) -> "RemotePolicy":
    """Connect to a policy server, such as ws://127.0.0.1:8000.

    Raises:
        ConnectionError: No server there, or one that takes no more connections.
        TimeoutError: A server that says nothing.
        ValueError: Not a websocket URL, or neither the server nor `cfg` says what its actions are.
    """
    if not 0 < cfg.timeout_s < np.inf or cfg.reconnects < 0:
        raise ValueError(
            f"expected a positive timeout_s and reconnects of at least 0 for {url}, found "
            f"{cfg.timeout_s:g} and {cfg.reconnects}"
        )
    first = Channel(url, cfg.timeout_s)
    try:
        return RemotePolicy(first, to_meta(url, first.metadata, cfg), cfg)
    except ValueError:
        first.close()
        raise


class RemotePolicy:
    """Asks a server for the actions of each slot; all slots are asked before the first answer.

    A server that announces "supports_reset" is told each episode's instruction and seed. Any other
    is given a new connection for every episode and no seed; what it remembers beyond that, or draws
    at random, is its own.
    A connection that breaks within an episode takes the server's memory of it along, so the
    episode cannot go on; only a server that announces "stateless" is asked again.
    """

    def __init__(self, first: Channel, meta: PolicyMeta, cfg: RemoteConfig) -> None:
        """Take a server's first connection; see `connect`."""
        self.meta = meta
        self._cfg = cfg
        self._url, self._metadata = first.url, first.metadata
        self._stateless = first.metadata.get("stateless") is True
        self._resets = first.metadata.get("supports_reset") is True
        self._channels = [first]
        self._told: list[str] = []

    def reset(self, instructions: Sequence[str], *, seeds: Sequence[int]) -> None:
        """See `Policy.reset`.

        Raises:
            ConnectionError: The server is gone, or takes no more connections.
            TimeoutError: No answer in time.
            ValueError: What the server reports, such as an instruction that it does not know.
        """
        check_reset(self.meta, instructions, seeds)
        usable = [channel for channel in self._channels if self._is_usable(channel)]
        for channel in self._channels:
            if channel not in usable:
                channel.close()
        self._channels = usable
        while len(self._channels) < len(instructions):
            self._channels.append(self._open())
        self._told = list(instructions)
        if self._resets:
            asked = zip(instructions, seeds, strict=True)
            self._exchange(
                {
                    slot: {RESET_KEY: {"instruction": told, "seed": int(seed)}}
                    for slot, (told, seed) in enumerate(asked)
                }
            )

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
        """See `Policy.act`.

        Raises:
            ConnectionError: The server is gone.
            TimeoutError: No answer in time.
            ValueError: Also an answer of another shape, or what the server reports.
        """
        check_frames(self.meta, len(self._told), frames, active)
        requests = {
            int(slot): {
                self._cfg.image_key: frames[slot],
                self._cfg.prompt_key: self._told[slot],
            }
            for slot in np.flatnonzero(active)
        }
        answers, events = self._exchange(requests)
        size = LAYOUTS[self.meta.layout].size
        actions = np.zeros((len(frames), self.meta.chunk, size), np.float32)
        for slot, answer in answers.items():
            actions[slot] = check_actions(answer.get("actions"), actions.shape[1:], self._url)
            happened = answer.get("events")
            if isinstance(happened, list):  # what other servers mean by it is not known
                events += [(slot, str(event)) for event in happened]
        return ActionBatch(actions, tuple(events))

    def close(self) -> None:
        """See `Policy.close`; the next reset connects again."""
        for channel in self._channels:
            channel.close()
        self._channels, self._told = [], []

    def _exchange(
        self, requests: Mapping[int, Message]
    ) -> tuple[dict[int, Message], list[tuple[int, str]]]:
        """Send all requests, then wait for all answers; return answers and events."""
        answers: dict[int, Message] = {}
        events: list[tuple[int, str]] = []
        try:
            for slot, request in requests.items():
                self._channels[slot].send(request)
            for slot, request in requests.items():
                try:
                    answers[slot] = self._channels[slot].receive()
                except ConnectionError:
                    if not self._stateless:
                        raise
                    self._channels[slot].close()
                    self._channels[slot] = self._open(self._cfg.reconnects)
                    self._channels[slot].send(request)
                    answers[slot] = self._channels[slot].receive()
                    events.append((slot, RECONNECTED))
        except BaseException:
            self.close()  # answers that are still under way would be taken for later ones
            raise
        return answers, events

    def _is_usable(self, channel: Channel) -> bool:
        """Whether an episode may begin on a connection."""
        fresh = self._resets or self._stateless or not channel.asked
        return fresh and channel.is_open

    def _open(self, attempts: int = 0) -> Channel:
        channel = Channel(self._url, self._cfg.timeout_s, attempts)
        if fingerprint(channel.metadata) != fingerprint(self._metadata):
            channel.close()
            raise ValueError(
                f"expected the policy server at {self._url} to serve what it served at first, "
                f"found {channel.metadata} instead of {self._metadata}; begin the run again"
            )
        return channel


def to_meta(url: str, metadata: Message, cfg: RemoteConfig) -> PolicyMeta:
    """Return what is known of a server's policy: what `cfg` says, else what the server announces.

    Raises:
        ValueError: A layout or chunk that nobody says, or something that cannot be.
    """
    said = {name: metadata[name] for name in EXPECTED if metadata.get(name) is not None}
    said |= {name: told for name in EXPECTED if (told := getattr(cfg, name, None)) is not None}
    for name in REQUIRED:
        if name not in said:
            raise ValueError(
                f"expected the policy server at {url} to announce its {name}, found "
                f"{sorted(map(str, metadata))}; say it in a policy file: `source: {url}` and "
                f"`remote: {{{name}: ...}}`"
            )
    for name, value in said.items():
        what, fits = EXPECTED[name]
        if not fits(value):
            raise ValueError(
                f"expected {name} of the policy at {url} to be {what}, found {value!r}"
            )
    lookup(LAYOUTS, said["layout"], "layout")
    if "image_size" in said:
        said["image_size"] = tuple(said["image_size"])
    return PolicyMeta(**{"name": url, **said, "fingerprint": fingerprint(metadata)})


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_size(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_count, value))


EXPECTED: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("text", lambda value: isinstance(value, str)),
    "layout": ("text", lambda value: isinstance(value, str)),
    "image_size": ("height and width", _is_size),
    "control_hz": ("a positive number", lambda value: isinstance(value, int | float) and value > 0),
    "history": ("a number of frames", lambda value: value == 0 or _is_count(value)),
    "chunk": ("a positive number", _is_count),
    "max_batch": ("a positive number", _is_count),
    "gripper": ("relative, absolute or none", ("", "relative", "absolute", "none").__contains__),
    "rotation": ("rpy, axis_angle or none", ("", "rpy", "axis_angle", "none").__contains__),
}
"""What a server may announce of its policy, and when to believe it."""
REQUIRED = ("layout", "chunk")


def fingerprint(metadata: Message) -> str:
    """Return the announced sha256 of the weights, else that of everything that is announced."""
    announced = metadata.get("fingerprint")
    return str(announced) if announced else hashlib.sha256(pack(dict(metadata))).hexdigest()


def check_actions(found: object, expected: tuple[int, ...], url: str) -> NDArray[np.float32]:
    """Return a server's actions (chunk, D); whether they are finite is checked where they are used.

    Raises:
        ValueError: Not an array of floats of the expected shape.
    """
    if not isinstance(found, np.ndarray) or found.dtype.kind != "f" or found.shape != expected:
        shown = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else repr(found)
        raise ValueError(
            f"expected float actions of shape {expected} from the policy server at {url}, found "
            f"{shown}; correct `chunk` and `layout` in the policy file or in the server"
        )
    return found.astype(np.float32)
