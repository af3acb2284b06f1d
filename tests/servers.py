"""Policy servers for tests: ours in a thread, and others with behaviour from the test."""

import base64
import hashlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from queue import Queue
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from v2w_gym.policies.base import Policy
from v2w_gym.policies.remote.server import PolicyServer
from v2w_gym.policies.remote.wire import pack, unpack

Answer = Callable[[dict[str, Any]], bytes | str]
"""What a server of somebody else answers to a request."""


@contextmanager
def serving(
    make: Callable[[], Policy],
    connections: int = 16,
    host: str = "127.0.0.1",
    client_timeout_s: float = 1800.0,
) -> Iterator[str]:
    """Serve policies in a thread of their own; yields the URL."""
    server = PolicyServer(
        make, host=host, port=0, connections=connections, client_timeout_s=client_timeout_s
    )
    urls: Queue[str] = Queue()
    thread = threading.Thread(target=server.run, args=(urls.put,))
    thread.start()
    try:
        yield urls.get(timeout=10)
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


class PlainServer:
    """A server that knows nothing of ours: metadata, then one answer per request.

    Attributes:
        episodes: The requests of each connection, in the order of connecting.
        going: The connections that are open; a test may break them.
        metadata: What the next connection receives first.
    """

    def __init__(self, metadata: bytes | str, answer: Answer) -> None:
        self.episodes: list[list[dict[str, Any]]] = []
        self.going: list[ServerConnection] = []
        self.metadata, self._answer = metadata, answer
        self._server: Server = serve(self._handle, "127.0.0.1", 0, compression=None, max_size=None)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def _handle(self, connection: ServerConnection) -> None:
        requests: list[dict[str, Any]] = []
        self.episodes.append(requests)
        self.going.append(connection)
        try:
            connection.send(self.metadata)
            for message in connection:
                requests.append(unpack(message))
                connection.send(self._answer(requests[-1]))
        except ConnectionClosed:
            pass

    def break_connections(self) -> None:
        """Vanish as a killed process does, without a closing handshake."""
        for connection in self.going:
            connection.close_socket()
        self.going = []

    def stop(self) -> None:
        self.break_connections()
        self._server.shutdown()
        self._thread.join(10)


@contextmanager
def plain(metadata: object, answer: Answer) -> Iterator[PlainServer]:
    """Run a `PlainServer`; metadata that is bytes or text is sent as it is."""
    raw = metadata if isinstance(metadata, bytes | str) else pack(metadata)
    server = PlainServer(raw, answer)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def raw(behave: Callable[[socket.socket], object]) -> Iterator[str]:
    """Call `behave` on each connection, until it fails; yields the URL."""
    going: list[socket.socket] = []

    def handle(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            behave(connection)

    def listen() -> None:
        with suppress(OSError):
            while True:
                going.append(listening.accept()[0])
                threading.Thread(target=handle, args=going[-1:], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for connection in going:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def upgrade(connection: socket.socket) -> None:
    """Answer a websocket's handshake."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(4096)
    lines = request.decode().lower().split("\r\n"), request.decode().split("\r\n")
    (key,) = [line for low, line in zip(*lines, strict=True) if low.startswith("sec-websocket-key")]
    digest = hashlib.sha1(f"{key[19:]}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n"
    )


def frame(opcode: int, payload: bytes, last: bool = True) -> bytes:
    """Return a websocket's frame: 0 goes on, 1 is text, 2 binary, 8 a goodbye, 9 a ping."""
    return bytes([opcode | last << 7, 127]) + struct.pack(">Q", len(payload)) + payload
