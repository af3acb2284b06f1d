"""Policy servers for tests: ours in a thread, and others that behave as a test wants."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Queue
from typing import Any

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from policies.base import Policy
from policies.remote.server import PolicyServer
from policies.remote.wire import pack, unpack

Answer = Callable[[dict[str, Any]], bytes | str]
"""What a server of somebody else answers to a request."""


@contextmanager
def serving(make: Callable[[], Policy], connections: int = 16) -> Iterator[str]:
    """Serve policies in a thread of their own; yields the URL."""
    server = PolicyServer(make, port=0, connections=connections)
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
        metadata: What the next connection is told first.
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
        """Vanish as a killed process does: without a goodbye."""
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
