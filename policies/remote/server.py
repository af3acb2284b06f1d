"""Serve a policy over openpi's websocket protocol, extended by an explicit reset.

The server needs only numpy, msgpack and websockets, so it runs in another project's environment:

    from v2w_gym.policies.remote.server import PolicyServer
    PolicyServer(make_my_policy).run(print)  # prints ws://127.0.0.1:8000

On every new connection the server announces metadata: `PolicyMeta` as a dict, "supports_reset", and
"remembers" (whether an action depends on earlier frames of the episode). A request is a dict with a
frame and an instruction. The response is a dict with "actions" (chunk, D). An episode begins

- with a new connection, or with another instruction than the last one;
- with {"__reset__": {"instruction": ..., "seed": ...}}; the response is {"reset": True};
- with a request for actions that also has "__reset__": True, or {"seed": ...}.

openpi's client sends nothing on a reset, so on one connection the policy's history continues into
the next episode. The server logs one warning per connection. `GET /healthz` returns OK.
Source: openpi, `openpi.serving.websocket_policy_server`.
"""

import asyncio
import http
import logging
import signal
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from v2w_gym.configs.text import brief, printable_lines
from v2w_gym.configs.values import is_whole_number
from v2w_gym.policies.base import Policy
from v2w_gym.policies.remote.wire import IMAGE_KEY, MAX_BYTES, PROMPT_KEY, RESET_KEY, pack, unpack

Result = TypeVar("Result")

_log = logging.getLogger(__name__)
QUIET = logging.Logger("websockets", logging.CRITICAL)
"""Logger that hides websockets' tracebacks about connections that are no clients."""

HEALTH = "/healthz"
SIGNALS = (signal.SIGINT, signal.SIGTERM)
MOST_CONNECTIONS = 10_000
MOST_TEXT = 10_000
"""Most characters of an instruction."""
MAX_WAITING = 2
"""Requests that are buffered per connection; further ones wait in the network."""
PING_EVERY = 5.0
"""Seconds between pings to a client. Pings keep idle connections through a proxy alive, and detect
connections that the server ended and the client left open."""
CLOSE_TIMEOUT = 2.0
"""Seconds to wait for the closing handshake."""
LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}
"""Address at which a local client reaches a server that listens at all addresses."""


class PolicyServer:
    """Serves one policy per connection, and runs them one after the other.

    One thread makes, resets and runs all policies, so other connections do not change the random
    numbers that a policy draws.
    """

    def __init__(
        self,
        make: Callable[[], Policy],
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        connections: int = 64,
        client_timeout_s: float = 1800.0,
    ) -> None:
        """Make the first policy; `run` starts the server.

        Args:
            make: Returns a policy for one more connection; its policies should share their weights.
            host: Address to listen at.
            port: Port to listen at; 0 for any free port.
            connections: Most connections at once; further ones are rejected (HTTP 503).
            client_timeout_s: Seconds for which a client may leave pings unanswered, for example
                while its simulator loads. Then the server ends its connection.

        Raises:
            ValueError: `connections`, `port` or `client_timeout_s` is out of range.
        """
        if not 1 <= connections <= MOST_CONNECTIONS:
            raise ValueError(
                f"expected connections >= 1 and at most {MOST_CONNECTIONS}, found {connections}"
            )
        if not 0 < client_timeout_s <= threading.TIMEOUT_MAX:
            raise ValueError(
                f"expected a positive client_timeout_s of at most {threading.TIMEOUT_MAX:g}, found "
                f"{client_timeout_s:g}"
            )
        if not 0 <= port <= 65535:
            raise ValueError(f"expected a port from 0 (any that is free) to 65535, found {port}")
        self._make, self._host, self._port, self._limit = make, host, port, connections
        self._client_timeout_s = client_timeout_s
        self._idle = [make()]
        meta = self._idle[0].meta
        self.metadata = {
            **asdict(meta),
            "max_batch": connections,
            "supports_reset": True,
            "remembers": meta.history > 1,
        }
        self._thread = ThreadPoolExecutor(1, "policy")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()

    def run(self, started: Callable[[str], Any]) -> None:
        """Serve until `stop`, Ctrl-C or SIGTERM; then end all connections and close all policies.

        Args:
            started: Called with the server's URL once clients can connect.

        Raises:
            OSError: The server cannot listen at the address.
        """
        try:
            asyncio.run(self._serve(started))
        except (OSError, UnicodeError) as error:  # UnicodeError if the host is no valid name
            raise OSError(
                f"expected an address to listen at, found {self._host}:{self._port} ({error}); "
                "choose another host or port"
            ) from error
        finally:
            self._thread.shutdown()
            for policy in self._idle:
                policy.close()

    def stop(self) -> None:
        """End `run`, from any thread, once it has started."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._stopped.set)

    async def _serve(self, started: Callable[[str], Any]) -> None:
        self._loop = asyncio.get_running_loop()
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._loop.add_signal_handler(number, self._stopped.set)
        async with serve(
            self._handle,
            self._host,
            self._port,
            process_request=self._admit,
            compression=None,
            max_size=MAX_BYTES,
            max_queue=MAX_WAITING,
            ping_interval=min(PING_EVERY, self._client_timeout_s),
            ping_timeout=self._client_timeout_s,
            close_timeout=CLOSE_TIMEOUT,
            logger=QUIET,
        ) as server:
            started(url_of(self._host, next(iter(server.sockets)).getsockname()[1]))
            await self._stopped.wait()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Respond to health checks, and reject connections beyond the limit."""
        if request.path == HEALTH:
            return connection.respond(http.HTTPStatus.OK, "OK\n")
        if len(connection.server.connections) >= self._limit:
            return connection.respond(
                http.HTTPStatus.SERVICE_UNAVAILABLE,
                f"expected at most {self._limit} connections at once, found one more; serve with "
                "more connections, or run fewer rollouts together\n",
            )
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        """Serve one connection; an error is sent to the client and ends it, as in openpi."""
        episode = Episode(self._take, _name(connection))
        try:
            with suppress(ConnectionClosed):
                await self._converse(connection, episode)
            if episode.policy is not None:
                self._idle.append(episode.policy)
        except Exception:  # noqa: BLE001  # send any error of the policy to the client
            report = printable_lines(traceback.format_exc())
            _log.error("the connection of %s ends:\n%s", _name(connection), report)
            with suppress(ConnectionClosed):
                await connection.send(report)
            if episode.policy is not None:  # its state is unknown, so it is not reused
                await self._in_turn(episode.policy.close)
            await connection.close(CloseCode.INTERNAL_ERROR)

    async def _converse(self, connection: ServerConnection, episode: "Episode") -> None:
        await connection.send(pack(self.metadata))
        async for message in connection:
            await connection.send(await self._in_turn(partial(episode.respond, message)))

    def _take(self) -> Policy:
        """Return an idle or new policy; it is reset before it acts."""
        return self._idle.pop() if self._idle else self._make()

    async def _in_turn(self, call: Callable[[], Result]) -> Result:
        """Run a call in the thread of the policies."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


class Episode:
    """The present episode of one connection.

    Attributes:
        policy: The connection's policy; None before the first request.
    """

    def __init__(self, take: Callable[[], Policy], client: str) -> None:
        self.policy: Policy | None = None
        self._take, self._client = take, client
        self._instruction: str | None = None
        self._warning_done = False
        """Whether the client has reset an episode, or was warned that it should."""

    def respond(self, message: bytes | str) -> bytes:
        """Return the response to a request.

        Raises:
            ValueError: The message is no valid request.
        """
        if self.policy is None:
            self.policy = self._take()
        request = unpack(message)
        if not isinstance(request, dict):
            raise ValueError(f"expected a request as a dict, found {type(request).__name__}")
        if RESET_KEY in request and IMAGE_KEY not in request:
            return pack(self._reset(self.policy, request[RESET_KEY]))
        return pack(self._act(self.policy, request))

    def _reset(self, policy: Policy, reset: object) -> dict[str, Any]:
        if not isinstance(reset, dict) or set(reset) != {"instruction", "seed"}:
            raise ValueError(f"expected a reset with instruction and seed, found {brief(reset)}")
        self._begin(policy, reset["instruction"], reset["seed"])
        self._warning_done = True
        return {"reset": True}

    def _act(self, policy: Policy, request: dict[str, Any]) -> dict[str, Any]:
        began = time.monotonic()
        instruction, reset = request.get(PROMPT_KEY, self._instruction), request.get(RESET_KEY)
        if not isinstance(instruction, str):
            raise ValueError(
                f"expected an instruction {PROMPT_KEY!r}, found {brief(list(request))}"
            )
        seed = _seed_of(reset)
        if reset or instruction != self._instruction:
            self._begin(policy, instruction, seed)
        self._warning_done |= bool(reset)
        self._warn(policy)
        batch = policy.act(_frame(request)[None], np.ones(1, np.bool_))
        return {
            "actions": batch.actions[0],
            "events": [event for _, event in batch.events],
            "server_timing": {"infer_ms": 1000 * (time.monotonic() - began)},
        }

    def _begin(self, policy: Policy, instruction: object, seed: object) -> None:
        if not isinstance(instruction, str) or len(instruction) > MOST_TEXT:
            raise ValueError(
                f"expected an instruction of at most {MOST_TEXT} characters, found "
                f"{brief(instruction)}"
            )
        if not is_whole_number(seed):
            raise ValueError(f"expected a whole number as seed, found {brief(seed)}")
        policy.reset([instruction], seeds=[int(seed)])
        self._instruction = instruction

    def _warn(self, policy: Policy) -> None:
        """Warn once if a client never resets a policy that has a history."""
        if policy.meta.history > 1 and not self._warning_done:
            _log.warning(
                "the client at %s does not reset policy %r, which has a history of %d frames, so "
                "the history continues into the next episode; open a new connection for each "
                "episode, or send %r: True with its first frame",
                *(self._client, policy.meta.name, policy.meta.history, RESET_KEY),
            )
            self._warning_done = True


def _seed_of(reset: object) -> object:
    """Return the seed of a request that begins an episode; 0 by default."""
    if isinstance(reset, dict) and set(reset) == {"seed"}:
        return reset["seed"]
    if reset is None or isinstance(reset, bool | np.bool_):
        return 0
    raise ValueError(f"expected {RESET_KEY!r} to be True or to hold a seed, found {brief(reset)}")


def url_of(host: str, port: int) -> str:
    """Return the URL at which a local client reaches a server that listens at `host`."""
    host = LOOPBACK.get(host, host)
    return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"


def _name(connection: ServerConnection) -> str:
    """Return the address and the port of a client."""
    return " port ".join(map(str, (connection.remote_address or ("nowhere",))[:2]))


def _frame(request: dict[str, Any]) -> NDArray[np.uint8]:
    """Return the frame of a request; the policy checks its size and type."""
    frame = request.get(IMAGE_KEY)
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        raise ValueError(
            f"expected a frame (H, W, 3) as {IMAGE_KEY!r}, found "
            f"{brief(getattr(frame, 'shape', frame))} in a request with {brief(list(request))}"
        )
    return frame
