"""A policy in a server that this process starts, and restarts if it is lost."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from v2w_gym.configs.policies import RemoteConfig
from v2w_gym.policies.base import ActionBatch, check_frames, check_reset, renew
from v2w_gym.policies.remote.client import RemotePolicy, connect
from v2w_gym.policies.remote.server_process import ServerProcess

Result = TypeVar("Result")

log = logging.getLogger(__name__)

RESTARTS = 2
"""Restarts per request; after these, the request itself is the probable cause."""
RESTARTED = "server restarted"


@dataclass(frozen=True)
class Episode:
    """The requests of one slot's present episode.

    Attributes:
        instruction: The instruction, spelt as the server knows it.
        seed: Seed of random choices.
        frames: All frames so far, (H, W, 3) each.
    """

    instruction: str
    seed: int
    frames: list[NDArray[np.uint8]] = field(default_factory=list)


class StartedPolicy:
    """A policy in a server that this process has started.

    A lost server is replaced. The new server receives all requests of the present episodes again,
    so it has the same history and returns the same actions.

    Attributes:
        metadata: The metadata that the server announced.
        losses: Number of servers that were lost.
    """

    def __init__(
        self,
        command: Sequence[str],
        settings: Mapping[str, Any],
        name: str,
        timeout_s: float,
        normalise: Callable[[str], str] = str,
    ) -> None:
        """Start the server.

        Args:
            command: See `ServerProcess`.
            settings: See `ServerProcess`.
            name: Name of the policy, for messages.
            timeout_s: Seconds after which a server without a response counts as lost.
            normalise: Returns an instruction in the server's spelling, or raises ValueError.

        Raises:
            ValueError: The server cannot serve the policy.
            OSError: The server cannot be started, or was lost.
        """
        self.losses = 0
        self._start = partial(ServerProcess, command, settings, name)
        self._name = name
        self._cfg = RemoteConfig(timeout_s=timeout_s)
        self._normalise = normalise
        self._episodes: list[Episode] = []
        self._remote: RemotePolicy | None = None
        self._process = self._start()
        remote = self._connect()
        self.meta, self.metadata = remote.meta, remote.metadata

    def reset(
        self,
        instructions: Sequence[str],
        *,
        seeds: Sequence[int],
        slots: Sequence[int] | None = None,
    ) -> None:
        """See `Policy.reset`.

        Raises:
            ConnectionError: The server and all its replacements were lost.
            ValueError: Also an error that the server reports.
        """
        begun = check_reset(self.meta, instructions, seeds, slots, len(self._episodes))
        new = [Episode("", 0)] * len(instructions)
        for slot in begun:
            new[slot] = Episode(self._normalise(instructions[slot]), int(seeds[slot]))
        episodes = self._episodes = renew(self._episodes, new, slots)
        known = [episode.instruction for episode in episodes]
        seeds = [episode.seed for episode in episodes]
        self._send(lambda remote: remote.reset(known, seeds=seeds, slots=slots))

    def act(self, frames: NDArray[np.uint8], active: NDArray[np.bool_]) -> ActionBatch:
        """See `Policy.act`; errors as for `reset`."""
        check_frames(self.meta, len(self._episodes), frames, active)
        before = self.losses
        response = self._send(lambda remote: remote.act(frames, active))
        slots = [int(slot) for slot in np.flatnonzero(active)]
        for slot in slots:
            self._episodes[slot].frames.append(frames[slot].copy())
        restarts = [(slot, RESTARTED) for slot in slots] * (self.losses - before)
        return ActionBatch(response.actions, (*response.events, *restarts))

    def close(self) -> None:
        """End the server; a later reset starts a new one. Safe to call twice."""
        self._episodes = []
        self._drop()

    def _send(self, request: Callable[[RemotePolicy], Result]) -> Result:
        """Return the response to a request; if the server is lost, repeat it to a new server."""
        for left in reversed(range(RESTARTS + 1)):
            try:
                remote = self._remote or self._replace()
                return self._exchange(partial(request, remote))
            except ConnectionError as error:
                if not left:
                    raise
                self.losses += 1
                log.warning("%s; starting it again", error)
            except BaseException:
                self._episodes = []  # the client has dropped them
                raise
        raise AssertionError("the last attempt returns or raises")

    def _replace(self) -> RemotePolicy:
        """Start a new server, and repeat the present episodes to it."""
        self._process = self._start()
        remote = self._connect()
        if self._episodes:
            self._exchange(partial(self._replay, remote))
        return remote

    def _connect(self) -> RemotePolicy:
        self._remote = self._exchange(partial(connect, self._process.url, self._cfg))
        return self._remote

    def _exchange(self, request: Callable[[], Result]) -> Result:
        """Return the response to a request; a server that does not respond is ended."""
        try:
            return request()
        except (ConnectionError, TimeoutError) as error:
            self._drop()
            late = f"sent no response in {self._cfg.timeout_s:g} s"
            what = late if isinstance(error, TimeoutError) else self._process.last_status()
            raise ConnectionError(
                f"lost the server of policy {self._name!r}, which {what}; it last wrote: "
                f"{self._process.last_output()}"
            ) from error

    def _replay(self, remote: RemotePolicy) -> None:
        """Repeat all requests of the present episodes, slot by slot."""
        remote.reset(
            [e.instruction for e in self._episodes], seeds=[e.seed for e in self._episodes]
        )
        for slot, episode in enumerate(self._episodes):
            alone = np.arange(len(self._episodes)) == slot
            for frame in episode.frames:
                frames = np.zeros((len(alone), *frame.shape), np.uint8)
                frames[slot] = frame
                remote.act(frames, alone)

    def _drop(self) -> None:
        """End the server, with its connections."""
        remote, self._remote = self._remote, None
        if remote is not None:
            remote.close()
        self._process.close()
