"""The program on a terminal: lines typed at prompts, and what the screen showed."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Sequence

from tests.support.program import DEADLINE_S


def on_a_terminal(
    arguments: Sequence[str], lines: Sequence[str], *, prompt: str = "> ", columns: int = 400
) -> str:
    """Types lines, each at a prompt, and waits for the end; what a screen so wide showed."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "dumb", "COLUMNS": str(columns)},
        start_new_session=True,
    )
    os.close(slave)
    screen = b""
    for line in lines:
        screen += _until(prompt.encode(), master)
        os.write(master, line.encode() + b"\n")
    process.wait(DEADLINE_S)
    screen += _rest(master)
    os.close(master)
    return screen.decode().replace("\r\n", "\n")


def _until(prompt: bytes, master: int) -> bytes:
    seen = b""
    while not seen.endswith(prompt):
        ready, _, _ = select.select([master], [], [], DEADLINE_S)
        assert ready, f"no prompt came: {seen!r}"
        seen += os.read(master, 4096)
    return seen


def _rest(master: int) -> bytes:
    seen = b""
    while select.select([master], [], [], 0)[0]:
        try:
            seen += os.read(master, 4096)
        except OSError:
            break
    return seen
