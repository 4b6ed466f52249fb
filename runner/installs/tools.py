"""Programs that make an install: what they are given of the environment, and how they are ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runner.errors import LOG_TAIL

CANCEL_POLL_S = 0.2
END_WAIT_S = 10.0
"""How long a program may take to end by itself once it is told to."""


def inherited(more: Mapping[str, str]) -> Mapping[str, str]:
    """This program's environment and more. A proxy's address may hold a password: everybody on
    this machine can read arguments, but not variables."""
    return {**os.environ, **more}


@dataclass(frozen=True, slots=True)
class Ended:
    """A program's exit status, and the last lines that it said."""

    code: int
    last: tuple[str, ...]


def spoken(
    command: Sequence[str | Path],
    environment: Mapping[str, str],
    cancelled: threading.Event,
    hear: Callable[[Iterator[str]], None],
) -> Ended:
    """Runs a program to its end, which `cancelled` brings about early. `hear` takes the lines of
    its output and of its errors, as they come and to the last."""
    last: deque[str] = deque(maxlen=LOG_TAIL)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        done = threading.Event()
        watch = threading.Thread(target=_end_when, args=(cancelled, done, process))
        watch.start()
        hear(_kept(process.stdout, last))
        done.set()
        watch.join()
    return Ended(process.returncode, tuple(last))


def _kept(lines: Iterator[str], last: deque[str]) -> Iterator[str]:
    for line in lines:
        text = line.rstrip()
        if text:
            last.append(text)
        yield text


def _end_when(
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
