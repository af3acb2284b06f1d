"""One connection to a policy server: whatever goes wrong is an error that names the server."""

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
"""For what websockets would log, with a traceback, besides raising it."""

FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0
"""Seconds before a second attempt to connect; each further wait is twice as long, up to a limit."""
CLOSE_TIMEOUT = 2.0
"""Seconds a server is given to say goodbye."""
MAX_METADATA = 2**20
"""Bytes in which a server can say what it serves."""
MAX_WAITING = 2
"""Messages that are received before they are asked for; further ones wait in the network."""
MISSING = re.compile(r"KeyError: (['\"])(?P<key>.+)\1$")
"""The last line of a traceback if a request lacks something."""


class ServerError(ValueError):
    """What a server reports instead of an answer.

    Attributes:
        missing: The key that it looked for in the request and did not find; None for anything else.
    """

    def __init__(self, message: str, missing: str | None) -> None:
        """Say what a server reports."""
        super().__init__(message)
        self.missing = missing


class Channel:
    """A connection that has just been made; the server has said what it serves."""

    def __init__(self, url: str, cfg: RemoteConfig, further_attempts: int = 0) -> None:
        """Connect, and wait for the metadata.

        Raises:
            ConnectionError: No server there, or one that refuses.
            TimeoutError: A server that says nothing.
            ValueError: Not a websocket URL, no API key, or something else than metadata.
        """
        self.address = url
        self.url = re.sub("//[^/@]*@", "//", url)
        """Where the server is, without a password."""
        self.asked = False
        """Whether a request has been sent."""
        self._timeout_s = cfg.timeout_s
        self._stack = ExitStack()
        self._connection = self._dial_patiently(url, cfg, further_attempts)
        try:
            self.metadata = self._receive("metadata", MAX_METADATA)
        except BaseException:
            self.drop()
            raise

    @property
    def is_open(self) -> bool:
        """Whether nobody has closed it, as far as is known."""
        return self._connection.state is State.OPEN

    def send(self, request: Mapping[str, Any]) -> None:
        """Send a request; that the server is gone is said by `receive`.

        Raises:
            TimeoutError: The server does not take it in time.
            ValueError: The server has said something that it was not asked; its next message would
                be taken for the answer.
        """
        self._check_silence()
        self.asked = True
        with self._limited(self._timeout_s) as late, suppress(ConnectionClosed):
            self._connection.send(pack(dict(request)))
        if late.is_set():
            raise self._late("room for a request")

    def receive(self) -> dict[str, Any]:
        """Wait for the answer to a request.

        Raises:
            ConnectionError: The server is gone.
            TimeoutError: No answer in time.
            ServerError: The error that the server reports.
            ValueError: Something else than an answer.
        """
        return self._receive("an answer", MAX_BYTES)

    def close(self) -> None:
        """Say goodbye. Safe to call twice."""
        with self._limited(CLOSE_TIMEOUT):
            self._stack.close()

    def drop(self) -> None:
        """Close without waiting for the server to say goodbye."""
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
        found = MISSING.search(last) if self.asked else None
        if found is None:
            return ServerError(message, None)
        key = found["key"]
        return ServerError(
            f"{message}; it needs {key} besides a frame and an instruction, so declare it in the "
            f"policy file, `inputs: {{{key}: ...}}` with numbers, {{zeros: [size]}} or {{image: "
            "[height, width]}, or name the frame or the instruction so, `remote: {image_key: ..., "
            "prompt_key: ...}`",
            key,
        )

    def _late(self, what: str) -> TimeoutError:
        return TimeoutError(
            f"expected {what} from the policy server at {self.url} within {self._timeout_s:g} s, "
            "found none; see what it does, or allow more in a policy file: "
            "`remote: {timeout_s: ...}`"
        )

    def _check_silence(self) -> None:
        try:
            found = self._connection.recv(0)
        except (TimeoutError, ConnectionClosed):
            return
        raise ValueError(
            f"expected the policy server at {self.url} to speak only when it is asked, found a "
            f"message of {len(found)} bytes before the request"
        )

    @contextmanager
    def _limited(self, seconds: float) -> Iterator[threading.Event]:
        """Cut the connection if the block takes longer; what is yielded is set if it did.

        A server that reads nothing, or a byte now and then, would else hold the sender for ever,
        and so would one that sends pings and does not read the answers.
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
        with suppress(OSError):  # it is closed already
            self._connection.socket.shutdown(socket.SHUT_RDWR)

    def _dial_patiently(
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
        """Connect without keepalive: a server that computes may leave pings unanswered.

        Like messages to it, those from it are not compressed, so none is larger than it looks.
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
                f"expected the policy server at {self.url} to speak TLS and to show a certificate "
                f"that is trusted here, found {printable(str(error))}; correct the address (ws:// "
                "is without TLS), or name the file of its certificate in SSL_CERT_FILE"
            ) from error
        except InvalidProxy as error:
            raise ValueError(
                f"expected an HTTP proxy like http://host:port, found {cfg.proxy!r}"
            ) from error
        except (InvalidURI, ValueError) as error:  # the latter if the port is no number
            where = getattr(error, "uri", url)
            there = "" if where == url else f", which redirects to {printable(where)}"
            raise ValueError(
                f"expected a server's URL like ws://host:port, found {printable(self.url)!r}{there}"
            ) from error
        except InvalidStatus as error:
            said = (error.response.body or b"").decode(errors="replace").strip()
            raise ConnectionError(
                f"expected the policy server at {self.url} to take a connection, found HTTP "
                f"{error.response.status_code}: {printable(said)}"
            ) from error
        except (OSError, WebSocketException, AssertionError) as error:
            # websockets asserts that a server waits for the request before it answers.
            said = printable(str(error)) or type(error).__name__
            raise ConnectionError(
                f"expected a policy server at {self.url}, found none ({said}); start it, for "
                "instance with `v2w serve-policy`, or correct the address"
            ) from error


def _headers(api_key_variable: str | None) -> Mapping[str, str]:
    """Return what openpi's client sends with an API key.

    Raises:
        ValueError: The variable is not set, or holds what no header may.
    """
    if api_key_variable is None:
        return {}
    key = os.environ.get(api_key_variable, "").strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ValueError(
            f"expected an API key in the environment variable {api_key_variable!r}, found "
            f"{'none' if not key else 'characters that no key has'}; "
            f"run `export {api_key_variable}=...`"
        )
    return {"Authorization": f"Api-Key {key}"}
