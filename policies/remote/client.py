"""A policy in a server, through openpi's websocket protocol; one connection per slot."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.policies import RemoteConfig
from v2w_gym.configs.robots import ACTION_LAYOUTS
from v2w_gym.configs.text import brief, printable
from v2w_gym.policies.base import ActionBatch, PolicyMeta, check_frames, check_reset, renew
from v2w_gym.policies.processing.constants import Constants, add_constants
from v2w_gym.policies.remote.announced import Message, fingerprint, is_announced, to_meta
from v2w_gym.policies.remote.channel import Channel, ServerError
from v2w_gym.policies.remote.wire import RESET_KEY

_log = logging.getLogger(__name__)

AS_ANNOUNCED = RemoteConfig()
NOTHING: Constants = {}
RECONNECTED, FURTHER = "reconnected", "another event of the server"
MOST_EVENTS, EVENT_LENGTH = 50, 100
"""Most different events of a server that are counted separately, and characters of each."""
PROBE_SIZE, PROBE_PROMPT = (224, 224), "do something"
"""Frame size (for a policy that takes any size) and instruction of a probe."""


def connect(
    url: str, cfg: RemoteConfig = AS_ANNOUNCED, constants: Constants = NOTHING
) -> "RemotePolicy":
    """Connect to a policy server, such as ws://127.0.0.1:8000.

    Args:
        url: URL of the server.
        cfg: Settings of the connection, and metadata that the server does not announce.
        constants: Further inputs of every request; see `v2w_gym.policies.processing.constants`.

    Raises:
        ConnectionError: No server at the URL, or the server accepts no more connections.
        TimeoutError: The server does not respond in time.
        ValueError: Not a websocket URL, unknown layout or chunk, or an invalid setting.
    """
    _check_keys(url, cfg, constants)
    first = Channel(url, cfg)
    try:
        return RemotePolicy(first, to_meta(first.url, first.metadata, cfg), cfg, constants)
    except ValueError:
        first.close()
        raise


class RemotePolicy:
    """Requests the actions of each slot from a server; sends all requests, then reads responses.

    A server that announces "supports_reset" receives each episode's instruction and seed. Any other
    server gets a new connection for every episode and no seed, so its random choices, and history
    that it keeps across connections, are beyond the client's control.
    If a connection breaks within an episode, the server's history of it is lost, and the client
    raises. Only for a stateless server does it reconnect and repeat the request.
    """

    def __init__(
        self, first: Channel, meta: PolicyMeta, cfg: RemoteConfig, constants: Constants = NOTHING
    ) -> None:
        """Use the first connection to a server; see `connect`."""
        self.meta = replace(meta, fingerprint=add_constants(meta.fingerprint, constants))
        self._cfg, self._constants = cfg, constants
        self._address, self._url, self.metadata = first.address, first.url, first.metadata
        self._stateless = _is_stateless(first, cfg)
        self._resets = is_announced(first.url, first.metadata, "supports_reset")
        self._channels = [first]
        self._instructions: list[str] = []
        self._events: set[str] = set()

    def probe(self) -> None:
        """Send one request with a black frame, to find missing inputs before any rollout.

        A server that announces "supports_reset" needs no further inputs and gets no request. The
        probe's episode ends afterwards.

        Raises:
            ConnectionError: The server has closed the connection.
            TimeoutError: No response in time.
            ValueError: The request lacks an input, or the response has another shape. Other errors
                of the server are only logged, as they may be about this frame or instruction.
        """
        if self._resets or not self._cfg.probe:
            return
        self.reset([PROBE_PROMPT], seeds=[0])
        size = self.meta.image_size or PROBE_SIZE
        try:
            self.act(np.zeros((1, *size, 3), np.uint8), np.ones(1, np.bool_))
        except ServerError as error:
            if error.missing is not None:
                raise
            _log.warning("in a probe with a black frame and %r, %s", PROBE_PROMPT, error)
        finally:
            self._instructions = []

    def reset(
        self,
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        slots: Sequence[int] | None = None,
    ) -> None:
        """See `Policy.reset`.

        Raises:
            ConnectionError: The server is gone, or accepts no more connections.
            TimeoutError: No response in time.
            ValueError: An error that the server reports, such as an unknown instruction.
        """
        begun = check_reset(self.meta, instructions, seeds, slots, len(self._instructions))
        renewed = renew(self._instructions, instructions, slots)
        with self._abandoned_on_error():
            if slots is None:
                self._begin_all(len(instructions))
            for slot in begun:
                self._begin(slot)
        self._instructions = renewed
        if self._resets:
            episodes = {s: {"instruction": renewed[s], "seed": int(seeds[s])} for s in begun}
            self._exchange({slot: {RESET_KEY: begin} for slot, begin in episodes.items()})

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
        """See `Policy.act`.

        Raises:
            ConnectionError: The server has closed the connection.
            TimeoutError: No response in time.
            ValueError: Also a response of another shape, or an error that the server reports.
        """
        check_frames(self.meta, len(self._instructions), frames, active)
        requests = {
            int(slot): {
                **self._constants,
                self._cfg.image_key: frames[slot],
                self._cfg.prompt_key: self._instructions[slot],
            }
            for slot in np.flatnonzero(active)
        }
        responses, events = self._exchange(requests)
        size = ACTION_LAYOUTS[self.meta.layout].size
        actions = np.zeros((len(frames), self.meta.chunk, size), np.float32)
        for slot, response in responses.items():
            actions[slot] = check_actions(response.get("actions"), actions.shape[1:], self._url)
            events += [(slot, event) for event in self._to_events(response.get("events"))]
        return ActionBatch(actions, tuple(events))

    def close(self) -> None:
        """See `Policy.close`; the next reset connects again."""
        for channel in self._channels:
            channel.close()
        self._channels, self._instructions = [], []

    def _exchange(
        self, requests: Mapping[int, Message]
    ) -> tuple[dict[int, Message], list[tuple[int, str]]]:
        """Send all requests, then wait for all responses; return responses and events."""
        responses: dict[int, Message] = {}
        events: list[tuple[int, str]] = []
        with self._abandoned_on_error():
            for slot, request in requests.items():
                self._channels[slot].send(request)
            for slot, request in requests.items():
                try:
                    responses[slot] = self._channels[slot].receive()
                except ConnectionError:
                    if not self._stateless:
                        raise
                    self._channels[slot].close()
                    self._channels[slot] = self._open(self._cfg.reconnects)
                    self._channels[slot].send(request)
                    responses[slot] = self._channels[slot].receive()
                    events.append((slot, RECONNECTED))
        return responses, events

    @contextmanager
    def _abandoned_on_error(self) -> Iterator[None]:
        """Drop all connections on an error, so that no late response is read as another's."""
        try:
            yield
        except BaseException:
            for channel in self._channels:
                channel.drop()
            self.close()
            raise

    def _to_events(self, happened: object) -> list[str]:
        """Return the events of a response, shortened and limited in number."""
        if not isinstance(happened, list):  # other servers may use the key for something else
            return []
        texts = [event for event in happened[:MOST_EVENTS] if isinstance(event, str)]
        events = []
        for text in (printable(text, EVENT_LENGTH) for text in texts):
            if len(self._events) < MOST_EVENTS:
                self._events.add(text)
            events.append(text if text in self._events else FURTHER)
        return events

    def _begin_all(self, slots: int) -> None:
        """Close connections on which no episode can begin, and open one for every slot."""
        usable = [channel for channel in self._channels if self._is_usable(channel)]
        for channel in self._channels:
            if channel not in usable:
                channel.close()
        self._channels = usable
        while len(self._channels) < slots:
            self._channels.append(self._open())

    def _begin(self, slot: int) -> None:
        if not self._is_usable(self._channels[slot]):
            self._channels[slot].close()
            self._channels[slot] = self._open()

    def _is_usable(self, channel: Channel) -> bool:
        """Whether an episode can begin on a connection."""
        fresh = self._resets or self._stateless or not channel.used
        return fresh and channel.is_open

    def _open(self, attempts: int = 0) -> Channel:
        channel = Channel(self._address, self._cfg, attempts)
        if fingerprint(channel.metadata) != fingerprint(self.metadata):
            channel.close()
            raise ValueError(
                f"expected the policy server at {self._url} to serve the same policy as before, "
                f"found {brief(channel.metadata)} instead of {brief(self.metadata)}; start the "
                "run again"
            )
        return channel


def check_actions(found: object, expected: tuple[int, ...], url: str) -> NDArray[np.float32]:
    """Check a server's actions (chunk, D); `RobotPolicy` checks that they are finite.

    Raises:
        ValueError: Not an array of floats of the expected shape, or numbers beyond float32.
    """
    if not isinstance(found, np.ndarray) or found.dtype.kind != "f" or found.shape != expected:
        shown = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else brief(found)
        sizes = {name: layout.size for name, layout in ACTION_LAYOUTS.items()}
        raise ValueError(
            f"expected float actions of shape {expected} from the policy server at {url}, found "
            f"{shown}; correct `chunk` and `layout` in the policy file or in the server (values of "
            f"a layout: {sizes})"
        )
    with np.errstate(over="ignore"):  # an overflow to infinity is an error below
        actions = found.astype(np.float32)
    beyond = np.isinf(actions) & np.isfinite(found)
    if beyond.any():
        raise ValueError(
            f"expected actions that fit into float32 from the policy server at {url}, found "
            f"{found[beyond][0]:g}; check the server's weights and statistics"
        )
    return actions


def _is_stateless(first: Channel, cfg: RemoteConfig) -> bool:
    """Whether responses depend on their requests alone; `cfg` overrides the server."""
    announced = is_announced(first.url, first.metadata, "stateless")
    if cfg.stateless and is_announced(first.url, first.metadata, "remembers"):
        raise ValueError(
            f"expected a server without history at {first.url} for stateless: true, found one that "
            "announces `remembers`; leave stateless out"
        )
    return announced if cfg.stateless is None else cfg.stateless


def _check_keys(url: str, cfg: RemoteConfig, constants: Constants) -> None:
    """Check that all keys of a request are different."""
    keys = (cfg.image_key, cfg.prompt_key, RESET_KEY, *constants)
    if "" in keys or len(set(keys)) < len(keys):
        raise ValueError(
            f"expected different names for the frame, the instruction and the inputs of {url}, "
            f"none of them {RESET_KEY!r} or empty, found image_key={cfg.image_key!r}, "
            f"prompt_key={cfg.prompt_key!r} and inputs {sorted(constants)}"
        )
