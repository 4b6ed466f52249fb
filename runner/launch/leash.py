"""Runs one native engine and ends it when the daemon ends, also by kill -9.

A program of its own that needs the standard library alone:

    python -I leash.py LOG GRACE_S PROGRAM [ARGUMENT...]

Its stdin is a pipe held by the daemon: where that pipe ends, the engine is asked to end, and
killed GRACE_S seconds later. A SIGTERM asks it as well, a second one kills it. What the engine
prints goes to LOG, at most two files of LOG_BYTES. Prints the engine's process ID once it runs,
and ends the way the engine ended.
"""

from __future__ import annotations

import ctypes
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

LOG_BYTES = 10 * 1024 * 1024
CHUNK = 64 * 1024
CANNOT_RUN = 127
LAST_OUTPUT_S = 1.0
"""How long output is read on after the engine's end: its pipe may have other holders."""

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
PR_SET_PDEATHSIG = 1


class RotatingLog:
    """Appends to a file; a full one becomes FILE.1, in place of the one before."""

    def __init__(self, path: str, limit: int = LOG_BYTES) -> None:
        self._path = path
        self._limit = limit
        self._open()

    def write(self, data: bytes) -> None:
        if self._size + len(data) > self._limit:
            self._file.close()
            os.replace(self._path, f"{self._path}.1")  # noqa: PTH105
            self._open()
        self._file.write(data)
        self._size += len(data)

    def close(self) -> None:
        self._file.close()

    def _open(self) -> None:
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115, PTH123 - kept open
        self._size = self._file.tell()


class Leash:
    """One engine: its output, its end, and who may ask for it."""

    def __init__(self, engine: subprocess.Popen[bytes], log: RotatingLog, grace_s: float) -> None:
        self._engine = engine
        self._log = log
        self._grace_s = grace_s
        self._asked = False
        self._deadline: float | None = None
        self._selector = selectors.DefaultSelector()

    def hold(self, wakeup: int) -> int:
        """Returns the engine's exit status, negative for a signal."""
        assert self._engine.stdout is not None
        self._selector.register(self._engine.stdout, selectors.EVENT_READ, self._read_output)
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ, self._read_daemon)
        self._selector.register(wakeup, selectors.EVENT_READ, self._read_signals)
        while self._engine.poll() is None:
            self._turn(self._time_left())
            if self._time_left() == 0:
                self._deadline = None
                self._signal(signal.SIGKILL)
        # What the engine itself has started ends with it.
        self._signal(signal.SIGKILL)
        self._drain()
        return self._engine.returncode

    def _turn(self, timeout: float | None) -> bool:
        events = self._selector.select(timeout)
        for key, _ in events:
            handle: Callable[[int], None] = key.data
            handle(key.fd)
        return bool(events)

    def _drain(self) -> None:
        deadline = time.monotonic() + LAST_OUTPUT_S
        while self._engine.stdout in self._selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0 or not self._turn(left):
                return

    def _read_output(self, descriptor: int) -> None:
        data = os.read(descriptor, CHUNK)
        if data:
            self._log.write(data)
        else:
            self._selector.unregister(descriptor)

    def _read_daemon(self, descriptor: int) -> None:
        if not os.read(descriptor, CHUNK):
            self._selector.unregister(descriptor)
            self._signal(signal.SIGTERM)
            self._deadline = time.monotonic() + self._grace_s

    def _read_signals(self, descriptor: int) -> None:
        for number in os.read(descriptor, CHUNK):
            if number == signal.SIGCHLD:
                continue
            self._signal(signal.SIGKILL if self._asked else signal.SIGTERM)
            self._asked = True

    def _time_left(self) -> float | None:
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - time.monotonic())

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._engine.pid, number)


def run(log_path: str, grace_s: float, command: list[str]) -> int:
    log = RotatingLog(log_path)
    wakeup = _wake_on_signals()
    try:
        engine = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
            preexec_fn=_dies_with_parent(),  # noqa: PLW1509 - no other thread runs here
        )
    except OSError as error:
        log.write(f"{command[0]} can't be run: {error.strerror}\n".encode())
        return CANNOT_RUN
    print(engine.pid, flush=True)
    return Leash(engine, log, grace_s).hold(wakeup)


def _wake_on_signals() -> int:
    """A descriptor to read the numbers of signals from, as they come."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in SIGNALS:
        signal.signal(number, _noted)
    return reader


def _noted(_number: int, _frame: FrameType | None) -> None:
    """The wakeup descriptor has it already."""


def _dies_with_parent() -> Callable[[], None]:
    """On Linux the kernel kills the engine should this program be killed."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    library, leash = ctypes.CDLL(None), os.getpid()

    def prepare() -> None:
        library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != leash:
            os._exit(1)

    return prepare


def _end_as(status: int) -> None:
    """Ends this program the way the engine ended."""
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):  # SIGKILL's handler can't be set
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    sys.exit(status)


if __name__ == "__main__":
    _end_as(run(sys.argv[1], float(sys.argv[2]), sys.argv[3:]))
