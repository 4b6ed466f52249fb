"""Questions to this machine: what its files, device nodes and programs say."""

from __future__ import annotations

import glob
import os
import platform
import selectors
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

TIME_LIMIT_S = 5.0
"""For one program. A driver that hangs must not keep the runner from starting."""

KILL_WAIT_S = 0.5
GIVEN_UP = -9
MAX_FILE_BYTES = 2 * 1024 * 1024
MAX_OUTPUT = 1024 * 1024
"""Bytes kept of what a program prints. One that prints more is ended."""
_CHUNK = 64 * 1024


@dataclass(frozen=True, slots=True)
class Platform:
    """`system` in lower case (linux, darwin), `machine` as the kernel says it (x86_64); memory in
    bytes, whatever limits this process has."""

    system: str
    machine: str
    cpus: int
    memory: int


@dataclass(frozen=True, slots=True)
class Output:
    """What a program printed, errors included, and its exit status: None where it outran the
    time limit, printed too much or could not be started."""

    text: str
    status: int | None = 0

    @property
    def ok(self) -> bool:
        return self.status == 0


class Probe(Protocol):
    """All that the vendors' modules may ask. Nothing raises."""

    def platform(self) -> Platform: ...

    def run(self, *command: str) -> Output | None:
        """None where there is no such program."""

    def read(self, path: str) -> str | None:
        """A file's text; None where it is missing or may not be read."""

    def glob(self, pattern: str) -> tuple[str, ...]:
        """Paths that exist, sorted; `*` stands for anything but a slash."""

    def group(self, name: str) -> int | None:
        """The number of a group of this host."""

    def owner(self, path: str) -> int | None:
        """The number of the group that a path belongs to."""


class HostProbe:
    """The machine that this program runs on."""

    def platform(self) -> Platform:
        return Platform(
            system=platform.system().lower(),
            machine=platform.machine(),
            cpus=_cpus(),
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        )

    def run(self, *command: str) -> Output | None:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except FileNotFoundError:
            return None
        except OSError as error:
            return Output(str(error), None)
        return _output(process)

    def read(self, path: str) -> str | None:
        try:
            with Path(path).open("rb") as file:
                return file.read(MAX_FILE_BYTES).decode("utf-8", "replace")
        except OSError:
            return None

    def glob(self, pattern: str) -> tuple[str, ...]:
        return tuple(sorted(glob.glob(pattern)))  # noqa: PTH207 -- keeps the pattern absolute

    def group(self, name: str) -> int | None:
        if sys.platform == "win32":
            return None
        import grp

        try:
            return grp.getgrnam(name).gr_gid
        except (KeyError, OSError):
            return None

    def owner(self, path: str) -> int | None:
        try:
            return Path(path).stat().st_gid
        except OSError:
            return None


def _output(process: subprocess.Popen[bytes]) -> Output:
    deadline = time.monotonic() + TIME_LIMIT_S
    try:
        printed = _printed(process, deadline)
        if len(printed) > MAX_OUTPUT:
            _abandon(process)
            return Output(_text(printed), None)
        status = process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        _abandon(process)
        return Output(f"no answer within {TIME_LIMIT_S:g} s", None)
    if process.stdout:
        process.stdout.close()
    return Output(_text(printed), status)


def _printed(process: subprocess.Popen[bytes], deadline: float) -> bytes:
    """All of it, or the first bytes of what is too much; raises TimeoutExpired."""
    if sys.platform == "win32":  # no select on pipes there
        printed, _ = process.communicate(timeout=TIME_LIMIT_S)
        return printed
    assert process.stdout is not None
    printed = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while len(printed) <= MAX_OUTPUT:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise subprocess.TimeoutExpired(process.args, TIME_LIMIT_S)
            chunk = os.read(process.stdout.fileno(), _CHUNK)
            if not chunk:
                break
            printed += chunk
    return bytes(printed)


def _text(printed: bytes) -> str:
    return printed[:MAX_OUTPUT].decode("utf-8", "replace")


def _abandon(process: subprocess.Popen[bytes]) -> None:
    """Kills it with its children, and doesn't wait long: a process that hangs in a driver can't
    be killed before the driver lets go of it."""
    with suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    if process.stdout:
        process.stdout.close()
    try:
        process.wait(KILL_WAIT_S)
    except subprocess.TimeoutExpired:
        process.returncode = GIVEN_UP  # so that nobody waits for it any more


def _cpus() -> int:
    if sys.platform != "linux":
        return os.cpu_count() or 1
    return len(os.sched_getaffinity(0))
