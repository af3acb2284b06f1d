"""Serve a policy to the parent process; `server_process.py` is the parent's side.

Settings arrive on stdin: their length in 8 bytes, then a message as in `wire.py`. The response is
one JSON line on stdout, {"url": ...} or {"error": ...}. The process ends when stdin is closed, and
so at the latest when its parent ends.
"""

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from typing import IO, Any

from v2w_gym.policies.remote.server import PolicyServer
from v2w_gym.policies.remote.wire import pack, unpack

LENGTH_BYTES = 8


def serve_parent(build: Callable[[Mapping[str, Any]], PolicyServer]) -> None:
    """Build a server from the parent's settings, and run it until the parent ends."""
    responses = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # send the output of libraries to stderr
    settings = read_settings(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        server = build(settings)
    except Exception as error:  # noqa: BLE001  # report any error to the parent
        traceback.print_exc()
        print(json.dumps({"error": _one_line(error)}), file=responses, flush=True)
        return
    server.run(lambda url: print(json.dumps({"url": url}), file=responses, flush=True))


def read_settings(stream: IO[bytes]) -> Mapping[str, Any]:
    """Return what `write_settings` wrote."""
    size = int.from_bytes(stream.read(LENGTH_BYTES), "little")
    return unpack(stream.read(size))


def write_settings(stream: IO[bytes], settings: Mapping[str, Any]) -> None:
    """Send settings: texts, numbers and arrays by name."""
    message = pack(dict(settings))
    stream.write(len(message).to_bytes(LENGTH_BYTES, "little") + message)
    stream.flush()


def _one_line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return first if isinstance(error, ValueError | OSError) else f"{type(error).__name__}: {first}"


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)  # without cleanup, so that nothing outlives the parent
