"""Serve a policy to others: openpi's websocket protocol, and a reset of its own.

It needs numpy, msgpack and websockets, so it also runs where a policy of somebody
else lives:

    from policies.remote.server import PolicyServer
    PolicyServer(make_my_policy).run(print)  # prints ws://127.0.0.1:8000

A server says what it serves as soon as it is connected to (`PolicyMeta` as a dict). A request is a
dict with a frame and an instruction, the answer a dict with "actions" (chunk, D). A request
{"__reset__": {"instruction": ..., "seed": ...}} begins an episode; a client that sends none begins
one by connecting, or with another instruction. `GET /healthz` answers OK.
Source: openpi, `openpi.serving.websocket_policy_server`.
"""

import asyncio
import http
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
from websockets.http11 import Request, Response

from policies.base import Policy
from policies.remote.wire import IMAGE_KEY, MAX_BYTES, PROMPT_KEY, RESET_KEY, pack, unpack

Result = TypeVar("Result")

HEALTH = "/healthz"
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class PolicyServer:
    """Gives each connection a policy of its own, and asks them one after the other.

    One thread makes, resets and asks all policies: whoever else is connected, a policy that draws
    random numbers draws the same ones.
    """

    def __init__(
        self,
        make: Callable[[], Policy],
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        connections: int = 64,
    ) -> None:
        """Make the first policy; nobody is served before `run`.

        Args:
            make: Gives a policy for one more connection; weights are best shared between them.
            host: Address to listen at.
            port: Port to listen at; 0 for any that is free.
            connections: Most connections at once; further ones are refused (HTTP 503).

        Raises:
            ValueError: No connections at all, or something that is no port.
        """
        if connections < 1:
            raise ValueError(f"expected connections >= 1, found {connections}")
        if not 0 <= port <= 65535:
            raise ValueError(f"expected a port from 0 (any that is free) to 65535, found {port}")
        self._make, self._host, self._port, self._limit = make, host, port, connections
        self._idle = [make()]
        meta = self._idle[0].meta
        self.metadata = {**asdict(meta), "max_batch": connections, "supports_reset": True}
        self._thread = ThreadPoolExecutor(1, "policy")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped = asyncio.Event()

    def run(self, started: Callable[[str], Any]) -> None:
        """Serve until `stop`, Ctrl-C or SIGTERM; then end all connections and close all policies.

        Args:
            started: Is told the server's URL when clients can connect.

        Raises:
            OSError: The address cannot be listened at.
        """
        try:
            asyncio.run(self._serve(started))
        except OSError as error:
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
        ) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            started(f"ws://{self._host}:{port}")
            await self._stopped.wait()

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer what is no websocket, and refuse a connection too many."""
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
        """Serve one connection; an error is reported to the client and ends it, as in openpi."""
        policy = None
        try:
            policy = await self._in_turn(self._take)
            with suppress(ConnectionClosed):
                await self._converse(connection, policy)
            self._idle.append(policy)
        except Exception:
            with suppress(ConnectionClosed):
                await connection.send(traceback.format_exc())
            if policy is not None:  # what state it is in is not known
                await self._in_turn(policy.close)
            raise  # websockets logs it and ends the connection

    async def _converse(self, connection: ServerConnection, policy: Policy) -> None:
        episode = Episode(policy)
        await connection.send(pack(self.metadata))
        async for message in connection:
            await connection.send(await self._in_turn(partial(episode.answer, message)))

    def _take(self) -> Policy:
        """Return a policy that nobody uses; it is reset before it acts."""
        return self._idle.pop() if self._idle else self._make()

    async def _in_turn(self, call: Callable[[], Result]) -> Result:
        """Do something with a policy in the one thread that may."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)


class Episode:
    """What one connection's policy has been told."""

    def __init__(self, policy: Policy) -> None:
        """Begin without an instruction."""
        self._policy = policy
        self._told: str | None = None

    def answer(self, message: bytes | str) -> bytes:
        """Return the answer to a request.

        Raises:
            ValueError: Not a request, or one that the policy refuses.
        """
        request = unpack(message)
        if not isinstance(request, dict):
            raise ValueError(f"expected a request as a dict, found {type(request).__name__}")
        if RESET_KEY in request:
            return pack(self._reset(request[RESET_KEY]))
        return pack(self._act(request))

    def _reset(self, asked: object) -> dict[str, Any]:
        if not isinstance(asked, dict) or set(asked) != {"instruction", "seed"}:
            raise ValueError(f"expected a reset with instruction and seed, found {asked!r}")
        self._policy.reset([asked["instruction"]], seeds=[int(asked["seed"])])
        self._told = asked["instruction"]
        return {"reset": True}

    def _act(self, request: dict[str, Any]) -> dict[str, Any]:
        began = time.monotonic()
        told = request.get(PROMPT_KEY, self._told)
        if not isinstance(told, str):
            raise ValueError(f"expected an instruction {PROMPT_KEY!r}, found {list(request)}")
        if told != self._told:
            self._reset({"instruction": told, "seed": 0})
        batch = self._policy.act(_frame(request)[None], np.ones(1, np.bool_))
        return {
            "actions": batch.actions[0],
            "events": [event for _, event in batch.events],
            "server_timing": {"infer_ms": 1000 * (time.monotonic() - began)},
        }


def _frame(request: dict[str, Any]) -> NDArray[np.uint8]:
    """Return the frame of a request; the policy checks its size and type."""
    frame = request.get(IMAGE_KEY)
    if not isinstance(frame, np.ndarray) or frame.ndim != 3:
        raise ValueError(
            f"expected a frame (H, W, 3) as {IMAGE_KEY!r}, found {getattr(frame, 'shape', frame)} "
            f"in a request with {list(request)}"
        )
    return frame
