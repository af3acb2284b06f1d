"""One connection to a policy server: whatever goes wrong is an error that names the server."""

import logging
import socket
import struct
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.protocol import State
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_websocket

from policies.remote.wire import MAX_BYTES, pack, unpack

_log = logging.getLogger(__name__)

FIRST_WAIT = 0.5
"""Seconds before a second attempt to connect; each further wait is twice as long."""
CLOSE_TIMEOUT = 2.0
"""Seconds a server is given to say goodbye."""


class Channel:
    """A connection that has just been made; the server has said what it serves."""

    def __init__(self, url: str, timeout_s: float, further_attempts: int = 0) -> None:
        """Connect, and wait for the metadata.

        Raises:
            ConnectionError: No server there, or one that refuses.
            TimeoutError: A server that says nothing.
            ValueError: Not a websocket URL, or something else than metadata.
        """
        self.url = url
        self.asked = False
        """Whether a request has been sent."""
        self._timeout_s = timeout_s
        self._stack = ExitStack()
        try:
            self._connection = self._dial_patiently(further_attempts)
            self.metadata = self._receive("metadata")
        except BaseException:
            self.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether nobody has closed it, as far as is known."""
        return self._connection.state is State.OPEN

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request; that the server is gone is said by `receive`."""
        self.asked = True
        with suppress(ConnectionClosed):
            self._connection.send(pack(dict(request)))

    def receive(self) -> dict[str, Any]:
        """Wait for the answer to a request.

        Raises:
            ConnectionError: The server is gone.
            TimeoutError: No answer in time.
            ValueError: Something else than an answer, or the error that the server reports.
        """
        return self._receive("an answer")

    def close(self) -> None:
        """Say goodbye. Safe to call twice."""
        self._stack.close()

    def _receive(self, what: str) -> dict[str, Any]:
        try:
            message = self._connection.recv(self._timeout_s)
        except TimeoutError as error:
            raise TimeoutError(
                f"expected {what} from the policy server at {self.url} within "
                f"{self._timeout_s:g} s, found none; see what it does, or allow more in a policy "
                "file: `remote: {timeout_s: ...}`"
            ) from error
        except ConnectionClosed as error:
            raise ConnectionError(
                f"expected {what} from the policy server at {self.url}, found that it had gone "
                f"({error}); start it again, then repeat the command"
            ) from error
        if isinstance(message, str):
            _log.error("the policy server at %s reports:\n%s", self.url, message.rstrip())
            last = (message.strip().splitlines() or ["nothing"])[-1]
            raise ValueError(f"the policy server at {self.url} reports: {last}")
        found = unpack(message)
        if not isinstance(found, dict):
            raise ValueError(
                f"expected {what} from the policy server at {self.url} as a dict, found "
                f"{type(found).__name__}"
            )
        return found

    def _dial_patiently(self, further_attempts: int) -> ClientConnection:
        wait = FIRST_WAIT
        for _ in range(further_attempts):
            time.sleep(wait)
            with suppress(ConnectionError):
                return self._dial()
            wait *= 2
        return self._dial()

    def _dial(self) -> ClientConnection:
        """Connect directly, whatever proxy the environment names, and without keepalive.

        A server that computes may leave pings unanswered for as long as an answer takes.
        """
        try:
            connection = self._stack.enter_context(
                connect_websocket(
                    self.url,
                    open_timeout=self._timeout_s,
                    close_timeout=CLOSE_TIMEOUT,
                    ping_interval=None,
                    compression=None,
                    max_size=MAX_BYTES,
                    proxy=None,
                )
            )
        except (InvalidURI, ValueError) as error:  # the latter if the port is no number
            raise ValueError(
                f"expected a server's URL like ws://host:port, found {self.url!r}"
            ) from error
        except InvalidStatus as error:
            said = (error.response.body or b"").decode(errors="replace").strip()
            raise ConnectionError(
                f"expected the policy server at {self.url} to take a connection, found HTTP "
                f"{error.response.status_code}: {said}"
            ) from error
        except (OSError, InvalidHandshake) as error:
            raise ConnectionError(
                f"expected a policy server at {self.url}, found none ({error}); start it, for "
                "instance with `v2w serve-policy`, or correct the address"
            ) from error
        limit = struct.pack("ll", int(self._timeout_s), int(self._timeout_s % 1 * 1e6))
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        return connection
