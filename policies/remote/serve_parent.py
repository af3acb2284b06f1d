"""Serve a policy to the process that started this one; the other side is `server_process.py`.

Settings come on stdin: their length in 8 bytes, then a message as in `wire.py`. The answer is one
JSON line on stdout, {"url": ...} or {"error": ...}. The process ends when stdin does, which is when
its parent ends.
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
    """Serve what `build` makes of the settings, until the parent ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    settings = read_settings(sys.stdin.buffer)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        server = build(settings)
    except Exception as error:  # noqa: BLE001  # whatever it is, the parent must hear of it
        traceback.print_exc()
        print(json.dumps({"error": _one_line(error)}), file=answers, flush=True)
        return
    server.run(lambda url: print(json.dumps({"url": url}), file=answers, flush=True))


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
    os._exit(0)  # at once: nothing here outlives the parent
