"""The lock that makes a daemon the only one of its home; it ends with the process, however."""

from __future__ import annotations

import fcntl
import os
import time

from runner.errors import AlreadyRunning
from runner.home import Home

_PID_BYTES = 32
_LOOK_S = 0.2
_POLL_S = 0.005


def become_only_daemon(home: Home) -> None:
    """Takes the lock, with this process's ID in it; raises AlreadyRunning.

    Never given back by hand: whoever waits for the daemon's end waits for the process's.
    """
    descriptor = os.open(home.daemon_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not _taken_soon(descriptor):
        pid = os.read(descriptor, _PID_BYTES).decode().strip()
        os.close(descriptor)
        raise AlreadyRunning(
            f"a daemon (pid {pid}) is already running on {home.root}",
            hint="`runner status` shows it; RUNNER_HOME and RUNNER_PORT make room for another",
        )
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())


def is_held(home: Home) -> bool:
    """Whether a daemon lives, listening or not."""
    try:
        descriptor = os.open(home.daemon_lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not _taken(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _taken_soon(descriptor: int) -> bool:
    """A command that only looks whether a daemon lives is in the way for an instant."""
    deadline = time.monotonic() + _LOOK_S
    while not _taken(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _taken(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
