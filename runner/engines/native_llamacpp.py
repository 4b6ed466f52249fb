"""llama.cpp out of the `xllamacpp` wheel, as a program that takes `llama-server`'s arguments.

    python -m runner.engines.native_llamacpp --model FILE --host SOCKET_OR_ADDRESS [--port N] …

It serves `llama-server`'s own HTTP API, and 503 while the model loads. A SIGTERM ends it at once.
Where it can't serve, the last line that it prints says why.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runner.engines.flag_help import captured_help
from runner.engines.native_parameters import apply
from runner.errors import BadInput

if TYPE_CHECKING:
    from xllamacpp import CommonParams, Server

FAILED = 1
BAD_ARGUMENTS = 2
STDERR = 2
LOG_LAG_S = 1.0
"""llama.cpp writes its log in a thread of its own, a little later."""

ERROR_LINE = re.compile(r"^[\d.]+ E (?P<text>\S.*)$", re.M)
"""The first one tells the cause, those after it who passed it on."""
LAST_ERROR = "exiting due to"


class CannotServe(Exception):
    """What llama.cpp said is why."""


def main(arguments: Sequence[str]) -> int:
    """Serves until it is told to end; returns the exit status."""
    # While the model loads no Python code runs, not even a signal's handler.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        parameters = _parameters(arguments)
        with _logged_to_file() as log:
            server = _serve(parameters, log)
    except BadInput as error:
        return _ended(BAD_ARGUMENTS, error.message, error.hint)
    except (CannotServe, ValueError, OSError) as error:
        return _ended(FAILED, str(error))
    told, _teller = _end_signals()
    print(f"ready on {server.listening_address}", file=sys.stderr, flush=True)
    told.recv(1)
    for host in parameters.hostnames:
        if host.endswith(".sock"):
            Path(host).unlink(missing_ok=True)
    # Nothing here needs to be torn down in order, and a busy server would take its time for it.
    os._exit(0)


def _ended(status: int, message: str, hint: str = "") -> int:
    """The last line says why."""
    print(f"error: {message}" + (f" ({hint})" if hint else ""), file=sys.stderr, flush=True)
    return status


def _parameters(arguments: Sequence[str]) -> CommonParams:
    """Raises BadInput."""
    from xllamacpp import CommonParams

    parameters = CommonParams()
    parameters.n_parallel = -1  # llama-server's own default
    apply(arguments, parameters, captured_help("llama.cpp"))
    if not parameters.model.path:
        raise BadInput("--model is missing", hint="write --model FILE")
    return parameters


def _serve(parameters: CommonParams, log: Path) -> Server:
    from xllamacpp import Server

    try:
        return Server(parameters)
    except RuntimeError as error:
        raise CannotServe(_cause(log) or str(error)) from error


@contextmanager
def _logged_to_file() -> Iterator[Path]:
    """Copies what llama.cpp prints to a file: its exceptions don't tell what its log does.

    A program of its own copies, because no thread of this one runs while a model loads.
    """
    own = os.dup(STDERR)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        log.touch()
        with subprocess.Popen(["tee", log], stdin=subprocess.PIPE, stdout=own) as tee:
            assert tee.stdin is not None
            os.dup2(tee.stdin.fileno(), STDERR)
            try:
                yield log
            finally:
                os.dup2(own, STDERR)
                os.close(own)


def _cause(log: Path) -> str:
    """The log's first error; waits until its last one has been written."""
    deadline = time.monotonic() + LOG_LAG_S
    text = ""
    while LAST_ERROR not in text and time.monotonic() < deadline:
        time.sleep(0.01)
        text = log.read_text(encoding="utf-8", errors="replace")
    found = ERROR_LINE.search(text)
    return " ".join(found["text"].split()) if found else ""


def _end_signals() -> tuple[socket.socket, socket.socket]:
    """A signal may arrive in any of llama.cpp's threads: its number comes through the first
    socket, for as long as both are kept."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    return reader, writer


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
