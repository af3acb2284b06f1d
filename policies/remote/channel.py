"""One connection to a policy server; every error names the server."""

import logging
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

from websockets.exceptions import (
    ConnectionClosed,
    InvalidProxy,
    InvalidStatus,
    InvalidURI,
    WebSocketException,
)
from websockets.protocol import State
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_websocket

from v2w_gym.configs.policies import RemoteConfig
from v2w_gym.configs.text import printable, printable_lines
from v2w_gym.policies.remote.wire import MAX_BYTES, pack, unpack

_log = logging.getLogger(__name__)
QUIET = logging.Logger("websockets", logging.CRITICAL)
"""Logger that hides the tracebacks of websockets, which raises the same errors."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds before the second attempt to connect, and the limit; each wait is twice the last."""
CLOSE_TIMEOUT = 2.0
"""Seconds to wait for the closing handshake."""
MAX_METADATA = 2**20
"""Largest size of a server's metadata, in bytes."""
MAX_WAITING = 2
"""Messages that are buffered before `receive`; further ones wait in the network."""
MISSING = re.compile(r"KeyError: (['\"])(?P<key>.+)\1$")
"""Last line of a server's traceback if the request lacks a key."""


class ServerError(ValueError):
    """An error that a server reports in place of a response.

    Attributes:
        missing: The key that the request lacks; None for other errors.
    """

    def __init__(self, message: str, missing: str | None) -> None:
        super().__init__(message)
        self.missing = missing


class Channel:
    """An open connection to a policy server, with the metadata that the server announced."""

    def __init__(self, url: str, cfg: RemoteConfig, further_attempts: int = 0) -> None:
        """Connect, and wait for the metadata.

        Raises:
            ConnectionError: No server at the URL, or the server rejects the connection.
            TimeoutError: The server does not respond in time.
            ValueError: Not a websocket URL, no API key, or a message that is no metadata.
        """
        self.address = url
        self.url = re.sub("//[^/@]*@", "//", url)
        """URL of the server, without a password."""
        self.used = False
        """Whether a request has been sent."""
        self._timeout_s = cfg.timeout_s
        self._stack = ExitStack()
        self._connection = self._dial_with_retries(url, cfg, further_attempts)
        try:
            self.metadata = self._receive("metadata", MAX_METADATA)
        except BaseException:
            self.drop()
            raise

    @property
    def is_open(self) -> bool:
        """Whether the connection is open, as far as this side knows."""
        return self._connection.state is State.OPEN

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request. If the server has closed the connection, `receive` raises.

        Raises:
            TimeoutError: The server does not read the request in time.
            ValueError: The server has sent a message without a request, so later responses could
                not be matched to requests.
        """
        self._check_silence()
        self.used = True
        with self._limited(self._timeout_s) as late, suppress(ConnectionClosed):
            self._connection.send(pack(dict(request)))
        if late.is_set():
            raise self._late("room for a request")

    def receive(self) -> dict[str, Any]:
        """Wait for the response to a request.

        Raises:
            ConnectionError: The server has closed the connection.
            TimeoutError: No response in time.
            ServerError: The server reports an error.
            ValueError: The message is no response.
        """
        return self._receive("a response", MAX_BYTES)

    def close(self) -> None:
        """Close with the closing handshake. Safe to call twice."""
        with self._limited(CLOSE_TIMEOUT):
            self._stack.close()

    def drop(self) -> None:
        """Close without the closing handshake."""
        self._cut()
        self._stack.close()

    def _receive(self, what: str, most: int) -> dict[str, Any]:
        try:
            message = self._connection.recv(self._timeout_s)
        except TimeoutError as error:
            raise self._late(what) from error
        except ConnectionClosed as error:
            raise ConnectionError(
                f"expected {what} from the policy server at {self.url}, found that it had gone "
                f"({printable(str(error))}); start it again, then repeat the command"
            ) from error
        if isinstance(message, str):
            raise self._reported(message)
        if len(message) > most:
            raise ValueError(
                f"expected {what} of at most {most} bytes from the policy server at {self.url}, "
                f"found {len(message)}"
            )
        found = unpack(message)
        if not isinstance(found, dict):
            raise ValueError(
                f"expected {what} from the policy server at {self.url} as a dict, found "
                f"{type(found).__name__}"
            )
        return found

    def _reported(self, text: str) -> ServerError:
        shown = printable_lines(text)
        _log.error("the policy server at %s reports:\n%s", self.url, shown)
        last = (shown.strip().splitlines() or ["nothing"])[-1]
        message = f"the policy server at {self.url} reports: {last}"
        found = MISSING.search(last) if self.used else None
        if found is None:
            return ServerError(message, None)
        key = found["key"]
        return ServerError(
            f"{message}; it needs {key} besides a frame and an instruction, so declare it in the "
            f"policy file, `inputs: {{{key}: ...}}` with numbers, {{zeros: [size]}} or {{image: "
            "[height, width]}, or rename the frame or the instruction, `remote: {image_key: ..., "
            "prompt_key: ...}`",
            key,
        )

    def _late(self, what: str) -> TimeoutError:
        return TimeoutError(
            f"expected {what} from the policy server at {self.url} within {self._timeout_s:g} s, "
            "found none; check the server, or set a longer time in a policy file: "
            "`remote: {timeout_s: ...}`"
        )

    def _check_silence(self) -> None:
        try:
            found = self._connection.recv(0)
        except (TimeoutError, ConnectionClosed):
            return
        raise ValueError(
            f"expected the policy server at {self.url} to send only responses, found a "
            f"message of {len(found)} bytes before the request"
        )

    @contextmanager
    def _limited(self, seconds: float) -> Iterator[threading.Event]:
        """Cut the connection if the block takes longer, and set the yielded event.

        Without the limit, a server that reads nothing, or a byte now and then, would block the
        sender for ever. So would a server that sends pings and does not read the pongs.
        """
        late = threading.Event()

        def end() -> None:
            late.set()
            self._cut()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield late
        finally:
            timer.cancel()

    def _cut(self) -> None:
        with suppress(OSError):  # already closed
            self._connection.socket.shutdown(socket.SHUT_RDWR)

    def _dial_with_retries(
        self, url: str, cfg: RemoteConfig, further_attempts: int
    ) -> ClientConnection:
        wait = FIRST_WAIT
        for _ in range(further_attempts):
            time.sleep(wait)
            with suppress(ConnectionError):
                return self._dial(url, cfg)
            wait = min(2 * wait, LONGEST_WAIT)
        return self._dial(url, cfg)

    def _dial(self, url: str, cfg: RemoteConfig) -> ClientConnection:
        """Connect without keepalive, because a busy server may not answer pings.

        Messages are not compressed in either direction, so `MAX_BYTES` limits their real size.
        """
        headers = _headers(cfg.api_key_variable)
        try:
            return self._stack.enter_context(
                connect_websocket(
                    url,
                    additional_headers=headers,
                    open_timeout=self._timeout_s,
                    close_timeout=CLOSE_TIMEOUT,
                    ping_interval=None,
                    compression=None,
                    max_size=MAX_BYTES,
                    max_queue=MAX_WAITING,
                    proxy=cfg.proxy,
                    logger=QUIET,
                )
            )
        except ssl.SSLError as error:
            raise ConnectionError(
                f"expected the policy server at {self.url} to use TLS with a trusted certificate, "
                f"found {printable(str(error))}; correct the address (ws:// "
                "is without TLS), or name the file of its certificate in SSL_CERT_FILE"
            ) from error
        except InvalidProxy as error:
            raise ValueError(
                f"expected an HTTP proxy like http://host:port, found {cfg.proxy!r}"
            ) from error
        except (InvalidURI, ValueError) as error:  # ValueError if the port is no number
            where = getattr(error, "uri", url)
            there = "" if where == url else f", which redirects to {printable(where)}"
            raise ValueError(
                f"expected a server's URL like ws://host:port, found {printable(self.url)!r}{there}"
            ) from error
        except InvalidStatus as error:
            body = (error.response.body or b"").decode(errors="replace").strip()
            raise ConnectionError(
                f"expected the policy server at {self.url} to accept a connection, found HTTP "
                f"{error.response.status_code}: {printable(body)}"
            ) from error
        except (OSError, WebSocketException, AssertionError) as error:
            # websockets has an assertion that fails if a server responds before the request.
            reason = printable(str(error)) or type(error).__name__
            raise ConnectionError(
                f"expected a policy server at {self.url}, found none ({reason}); start it, for "
                "instance with `v2w serve-policy`, or correct the address"
            ) from error


def _headers(api_key_variable: str | None) -> Mapping[str, str]:
    """Return the header with which openpi's client sends an API key.

    Raises:
        ValueError: The variable is not set, or its value is no valid header.
    """
    if api_key_variable is None:
        return {}
    key = os.environ.get(api_key_variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError(
            f"expected an API key in the environment variable {api_key_variable!r}, found "
            f"{'none' if not key else 'characters that a header cannot have'}; "
            f"run `export {api_key_variable}=...`"
        )
    return {"Authorization": f"Api-Key {key}"}
