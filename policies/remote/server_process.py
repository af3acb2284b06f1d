"""A policy server in another interpreter; `serve_parent.py` is that process's side."""

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from v2w_gym.configs.text import printable
from v2w_gym.policies.remote.serve_parent import write_settings

START_SECONDS = 300.0
"""Time limit to start, which includes importing a library and reading a model."""
END_SECONDS = 5.0
QUOTED_LINES = 3
"""Last lines of the server's stderr in an error message."""

PACKAGE = Path(__file__).parents[2]
RUN_MODULE = """
import runpy, sys, types
sys.path = [folder for folder in sys.path if folder]
package = sys.modules["v2w_gym"] = types.ModuleType("v2w_gym")
package.__path__ = [sys.argv[1]]
runpy.run_module(sys.argv[2], run_name="__main__")
"""
"""Runs a module of this package in an interpreter with other libraries.

It adds only this package to the path, without `v2w_gym/__init__.py`. `PYTHONPATH` would also add
the libraries that are installed beside the package.
"""


def module_command(python: str, module: str) -> list[str]:
    """Return the command that runs a module of this package with another interpreter."""
    return [python, "-c", RUN_MODULE, str(PACKAGE), module]


class ServerProcess:
    """A process that serves a policy at `url`, and ends with this one."""

    def __init__(self, command: Sequence[str], settings: Mapping[str, Any], name: str) -> None:
        """Start the process and wait until it serves.

        Args:
            command: Command that runs `serve_parent`.
            settings: Settings of the server.
            name: Name of the policy, for messages.

        Raises:
            ValueError: The process cannot serve the policy; the message says why.
            ConnectionError: The process ended before it served.
            OSError: The process cannot be started.
        """
        self._name = name
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        # This interpreter's packages must not shadow the other one's.
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment | {"CUDA_VISIBLE_DEVICES": "-1"},  # the world model's
            start_new_session=True,  # Ctrl-C is for this process, which then ends the server
        )
        try:
            self.url = self._wait(settings)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the process. Safe to call twice."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):  # unsent data can no longer be sent
                pipe.close()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._kill()
            self._process.wait()

    def last_status(self) -> str:
        """Return how the process has ended."""
        return f"ended with exit status {self._process.returncode}"

    def last_output(self) -> str:
        """Return the last lines that the process wrote to stderr."""
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").splitlines()
        last = [line for line in map(printable, lines) if line.strip()][-QUOTED_LINES:]
        return " | ".join(last) or "nothing"

    def _wait(self, settings: Mapping[str, Any]) -> str:
        """Return the URL at which the process serves."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._killed_after(START_SECONDS), suppress(BrokenPipeError):
            write_settings(self._process.stdin, settings)
        with self._killed_after(START_SECONDS):
            line = self._process.stdout.readline()
        response = _parse(line)
        if "error" in response:
            raise ValueError(f"cannot serve policy {self._name!r}: {printable(response['error'])}")
        if "url" not in response:
            self.close()
            raise ConnectionError(
                f"expected a server of policy {self._name!r} to start, found that it "
                f"{self.last_status()}; it last wrote: {self.last_output()}"
            )
        return response["url"]

    @contextmanager
    def _killed_after(self, seconds: float) -> Iterator[None]:
        """Kill the process if the block takes longer; that ends every wait on its pipes."""
        timer = threading.Timer(seconds, self._kill)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _kill(self) -> None:
        """Kill the process and its children, such as the Python behind a wrapper script."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)


def _parse(line: bytes) -> Mapping[str, str]:
    """Parse the line that `serve_parent` writes; return {} for any other text."""
    try:
        response = json.loads(line)
    except ValueError:
        return {}
    return response if isinstance(response, dict) else {}
