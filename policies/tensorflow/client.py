"""A SavedModel in a process of its own: started, asked, watched and, if it is lost, replaced."""

import importlib.util
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from v2w_gym.configs.text import brief, printable
from v2w_gym.policies.tensorflow.framing import PROTOCOL, Arrays, Message, read, write

log = logging.getLogger(__name__)

PYTHON_VARIABLE = "V2W_TF_PYTHON"
SCRIPT = Path(__file__).with_name("worker.py")

START_SECONDS = 300.0
"""For importing TensorFlow and reading a SavedModel from a slow disk."""
END_SECONDS = 5.0
RESTARTS = 2
"""How often one request may cost a worker its life before the request itself is to blame."""
QUOTED_LINES = 3
"""Of the worker's last words, in an error message."""

Process: TypeAlias = subprocess.Popen[bytes]


class Worker:
    """One worker process, which answers one request at a time.

    A request carries all it needs and changes nothing in the worker. So one that was lost with
    its process is repeated in a new one, and gets the answer that it would have got.

    Attributes:
        greeting: What the worker said of itself when it started, such as its TensorFlow version.
        losses: How many processes were lost.
    """

    def __init__(
        self, python: str, saved_model: Path, timeout: float, script: Path = SCRIPT
    ) -> None:
        """Start the process and wait until it has loaded the SavedModel.

        Args:
            python: Interpreter that has TensorFlow; see `find_python`.
            saved_model: Folder of the SavedModel.
            timeout: Seconds after which a request counts as lost.
            script: What the interpreter runs.

        Raises:
            ValueError: TensorFlow or the SavedModel cannot be loaded, or a worker of another
                version answers.
            OSError: The interpreter cannot be started, or its process was lost.
        """
        self.greeting: Mapping[str, Any] = {}
        self.losses = 0
        self._command = [python, str(script), str(saved_model)]
        self._timeout = timeout
        self._process: Process | None = None
        self._start()

    def request(self, kind: str, arrays: Arrays | None = None) -> Message:
        """Return the answer to a request; a lost worker is replaced and asked again.

        Raises:
            ValueError: The worker cannot do it; the message says why.
            ConnectionError: Worker after worker was lost on this request.
        """
        message = Message({"kind": kind}, arrays or {})
        for _ in range(RESTARTS):
            try:
                return self._ask(message)
            except ConnectionError as error:
                self.losses += 1
                log.warning("%s; starting it again", error)
        return self._ask(message)

    def close(self) -> None:
        """End the process; a later request would start a new one. Safe to call twice."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)

    def _ask(self, message: Message) -> Message:
        process = self._process or self._start()
        return self._exchange(process, message, self._timeout)

    def _start(self) -> Process:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        process = self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            # What this interpreter imports must not shadow what the other one has.
            env={k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")},
            start_new_session=True,  # Ctrl-C is for this process, which then ends the worker
        )
        try:
            self.greeting = self._exchange(process, None, START_SECONDS).info
            if self.greeting.get("protocol") != PROTOCOL:
                found = brief(dict(self.greeting))
                raise ValueError(
                    f"expected a worker of protocol {PROTOCOL}, found {found} from "
                    f"{self._command[1]}; install this project again"
                )
        except ValueError:
            self.close()
            raise
        return process

    def _exchange(self, process: Process, message: Message | None, seconds: float) -> Message:
        """Send `message`, if there is one, and return what the worker says."""
        assert process.stdin is not None and process.stdout is not None
        try:
            with _killed_after(process, seconds) as late:
                if message is not None:
                    write(process.stdin, message)
                answer = read(process.stdout)
        except (EOFError, OSError, ValueError) as error:
            self.close()
            reason = (
                f"gave no answer in {seconds:g} s" if late.is_set() else _reason(process, error)
            )
            raise ConnectionError(
                f"lost the worker {' '.join(self._command)}, which {reason}; it last wrote: "
                f"{self._last_words()}"
            ) from error
        except BaseException:
            self.close()  # the next request must not read the answer to this one
            raise
        if "error" in answer.info:
            said = printable(str(answer.info["error"]))
            raise ValueError(f"the worker of {self._command[2]} answered: {said}")
        return answer

    def _last_words(self) -> str:
        self._stderr.seek(0)
        lines = self._stderr.read().decode(errors="replace").splitlines()
        last = [line for line in map(printable, lines) if line.strip()][-QUOTED_LINES:]
        return " | ".join(last) or "nothing"


def find_python(given: str | None) -> str:
    """Return an interpreter that has TensorFlow.

    The first of: `given`; the one V2W_TF_PYTHON names; this one, if TensorFlow is installed here.

    Raises:
        ValueError: There is none; the message says how to make one.
    """
    named = given or os.environ.get(PYTHON_VARIABLE)
    if named and shutil.which(named):
        return named
    if not named and importlib.util.find_spec("tensorflow"):
        return sys.executable
    raise ValueError(
        f"expected a Python interpreter with TensorFlow, found {named or 'none'}; make one with "
        "`python3 -m venv tf && tf/bin/pip install tensorflow-cpu==2.21.0`, then set "
        f"python=tf/bin/python, or {PYTHON_VARIABLE}=tf/bin/python in the environment"
    )


@contextmanager
def _killed_after(process: Process, seconds: float) -> Iterator[threading.Event]:
    """Kill the process if the block takes longer; what is yielded is set if it did.

    A killed process ends every wait on its pipes, whether for writing or for reading.
    """
    late = threading.Event()

    def kill() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(seconds, kill)
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def _reason(process: Process, error: Exception) -> str:
    if isinstance(error, ValueError):
        return f"wrote something else than an answer ({error})"
    return f"ended with exit status {process.returncode}"


def _end(process: Process) -> None:
    """Close the pipes, upon which a worker ends, and kill one that does not."""
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        with suppress(OSError):  # what was not sent yet cannot be sent any more
            pipe.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.wait()


def _kill(process: Process) -> None:
    """Kill the process and what it started, such as the real Python behind a wrapper script."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
