"""Programs that make an install: what they are given of the environment, and how they are ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

CANCEL_POLL_S = 0.2
END_WAIT_S = 10.0
"""How long a program may take to end by itself once it is told to."""


def inherited(more: Mapping[str, str]) -> Mapping[str, str]:
    """This program's environment and more. A proxy's address may hold a password: everybody on
    this machine can read arguments, but not variables."""
    return {**os.environ, **more}


def end_when(
    cancelled: threading.Event, done: threading.Event, process: subprocess.Popen[str]
) -> None:
    """Until `done`: ends a program that nobody waits for, at last by force. It must lead a session
    of its own."""
    while not done.wait(CANCEL_POLL_S):
        if cancelled.is_set():
            process.terminate()
            if not done.wait(END_WAIT_S):
                _kill(process)
            return


def _kill(process: subprocess.Popen[str]) -> None:
    """With its children, which hold its output open: it leads a session of its own."""
    with suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


def runs(program: Path) -> bool:
    """Whether a process was started by this path; also where that can't be told."""
    try:
        listed = subprocess.run(
            ["ps", "-A", "-ww", "-o", "args="],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=END_WAIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return True
    return listed.returncode != 0 or os.fsencode(program) in listed.stdout
