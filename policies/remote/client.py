"""A policy that runs in a server: openpi's websocket protocol, one connection per slot."""

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
"""Different events of a server that are told apart, and characters of each."""
PROBE_SIZE, PROBE_PROMPT = (224, 224), "do something"
"""What a probe shows where any size will do, and what it asks for."""


def connect(
    url: str, cfg: RemoteConfig = AS_ANNOUNCED, constants: Constants = NOTHING
) -> "RemotePolicy":
    """Connect to a policy server, such as ws://127.0.0.1:8000.

    Args:
        url: Where the server is.
        cfg: What it does not say of itself, and how it is asked.
        constants: What every request holds besides the frame and the instruction; see
            `v2w_gym.policies.processing.constants`.

    Raises:
        ConnectionError: No server there, or one that takes no more connections.
        TimeoutError: A server that says nothing.
        ValueError: Not a websocket URL, neither the server nor `cfg` says what its actions are, or
            a setting that means nothing.
    """
    _check_keys(url, cfg, constants)
    first = Channel(url, cfg)
    try:
        return RemotePolicy(first, to_meta(first.url, first.metadata, cfg), cfg, constants)
    except ValueError:
        first.close()
        raise


class RemotePolicy:
    """Asks a server for the actions of each slot; all slots are asked before the first answer.

    A server that announces "supports_reset" is told each episode's instruction and seed. Any other
    is given a new connection for every episode and no seed; what it remembers beyond that, or draws
    at random, is its own.
    A connection that breaks within an episode takes the server's memory of it along, so the
    episode cannot go on; only a server that is stateless is asked again.
    """

    def __init__(
        self, first: Channel, meta: PolicyMeta, cfg: RemoteConfig, constants: Constants = NOTHING
    ) -> None:
        """Take a server's first connection; see `connect`."""
        self.meta = replace(meta, fingerprint=add_constants(meta.fingerprint, constants))
        self._cfg, self._constants = cfg, constants
        self._address, self._url, self.metadata = first.address, first.url, first.metadata
        self._stateless = _is_stateless(first, cfg)
        self._resets = is_announced(first.url, first.metadata, "supports_reset")
        self._channels = [first]
        self._instructions: list[str] = []
        self._events: set[str] = set()

    def probe(self) -> None:
        """Ask about a black frame, so that what a request lacks is known before any rollout.

        Nothing is asked of a server that announces "supports_reset": it takes what it is given
        here. The episode that is begun is over afterwards.

        Raises:
            ConnectionError: The server is gone.
            TimeoutError: No answer in time.
            ValueError: A request lacks something, or the answer has another shape. Any other report
                is only logged: it may be about this frame or this instruction.
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
            _log.warning("asked about a black frame and %r, %s", PROBE_PROMPT, error)
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
            ConnectionError: The server is gone, or takes no more connections.
            TimeoutError: No answer in time.
            ValueError: What the server reports, such as an instruction that it does not know.
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
            ConnectionError: The server is gone.
            TimeoutError: No answer in time.
            ValueError: Also an answer of another shape, or what the server reports.
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
        answers, events = self._exchange(requests)
        size = ACTION_LAYOUTS[self.meta.layout].size
        actions = np.zeros((len(frames), self.meta.chunk, size), np.float32)
        for slot, answer in answers.items():
            actions[slot] = check_actions(answer.get("actions"), actions.shape[1:], self._url)
            events += [(slot, event) for event in self._to_events(answer.get("events"))]
        return ActionBatch(actions, tuple(events))

    def close(self) -> None:
        """See `Policy.close`; the next reset connects again."""
        for channel in self._channels:
            channel.close()
        self._channels, self._instructions = [], []

    def _exchange(
        self, requests: Mapping[int, Message]
    ) -> tuple[dict[int, Message], list[tuple[int, str]]]:
        """Send all requests, then wait for all answers; return answers and events."""
        answers: dict[int, Message] = {}
        events: list[tuple[int, str]] = []
        with self._abandoned_on_error():
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
        return answers, events

    @contextmanager
    def _abandoned_on_error(self) -> Iterator[None]:
        """Give up all slots if one fails: later answers would be taken for those of others."""
        try:
            yield
        except BaseException:
            for channel in self._channels:
                channel.drop()
            self.close()
            raise

    def _to_events(self, happened: object) -> list[str]:
        """Return what of an answer's events is counted: short texts, and not too many."""
        if not isinstance(happened, list):  # what other servers mean by it is not known
            return []
        texts = [event for event in happened[:MOST_EVENTS] if isinstance(event, str)]
        events = []
        for text in (printable(text, EVENT_LENGTH) for text in texts):
            if len(self._events) < MOST_EVENTS:
                self._events.add(text)
            events.append(text if text in self._events else FURTHER)
        return events

    def _begin_all(self, slots: int) -> None:
        """Keep a connection for each slot at most, and only those on which an episode may begin."""
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
        """Whether an episode may begin on a connection."""
        fresh = self._resets or self._stateless or not channel.asked
        return fresh and channel.is_open

    def _open(self, attempts: int = 0) -> Channel:
        channel = Channel(self._address, self._cfg, attempts)
        if fingerprint(channel.metadata) != fingerprint(self.metadata):
            channel.close()
            raise ValueError(
                f"expected the policy server at {self._url} to serve what it served at first, "
                f"found {brief(channel.metadata)} instead of {brief(self.metadata)}; begin the "
                "run again"
            )
        return channel


def check_actions(found: object, expected: tuple[int, ...], url: str) -> NDArray[np.float32]:
    """Return a server's actions (chunk, D); whether they are finite is checked where they are used.

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
    with np.errstate(over="ignore"):  # infinity is what is looked for
        actions = found.astype(np.float32)
    beyond = np.isinf(actions) & np.isfinite(found)
    if beyond.any():
        raise ValueError(
            f"expected actions that fit into float32 from the policy server at {url}, found "
            f"{found[beyond][0]:g}; check the server's weights and statistics"
        )
    return actions


def _is_stateless(first: Channel, cfg: RemoteConfig) -> bool:
    """Whether answers depend on their requests alone: what the settings say, else the server."""
    announced = is_announced(first.url, first.metadata, "stateless")
    if cfg.stateless and is_announced(first.url, first.metadata, "remembers"):
        raise ValueError(
            f"expected a server that remembers nothing at {first.url} for stateless: true, found "
            "one that announces that it remembers; leave stateless out"
        )
    return announced if cfg.stateless is None else cfg.stateless


def _check_keys(url: str, cfg: RemoteConfig, constants: Constants) -> None:
    """Check that nothing in a request is called like something else."""
    keys = (cfg.image_key, cfg.prompt_key, RESET_KEY, *constants)
    if "" in keys or len(set(keys)) < len(keys):
        raise ValueError(
            f"expected different names for the frame, the instruction and the inputs of {url}, "
            f"none of them {RESET_KEY!r} or empty, found image_key={cfg.image_key!r}, "
            f"prompt_key={cfg.prompt_key!r} and inputs {sorted(constants)}"
        )
