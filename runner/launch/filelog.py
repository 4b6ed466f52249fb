"""A log file's lines: the last ones, and new ones as they come, through its rotations."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from runner.launch.lines import LineSplitter
from runner.logfile import TAIL_BYTES, last_lines

CHUNK = 64 * 1024
POLL_S = 0.1


def rotated(file: Path) -> Path:
    """Where the lines before those in `file` are, once there were too many."""
    return file.with_name(f"{file.name}.1")


def tail_of(file: Path, count: int) -> tuple[str, ...]:
    """At most `count` lines, the newest last; none where the file is gone."""
    lines = last_lines(file, count)
    return tuple(_older(file, count - len(lines)) + lines)


class FileLog:
    """Lines until `ended` is set and all is read; `close` ends them from any thread.

    Raises FileNotFoundError.
    """

    def __init__(self, file: Path, tail: int, ended: threading.Event) -> None:
        self._path = file
        self._ended = ended
        self._reading = threading.Lock()
        self._splitter = LineSplitter()
        opened = file.open("rb")
        self._file: BinaryIO | None = opened
        self._lines = self._tail(opened, tail)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while not self._lines:
            with self._reading:
                if self._file is None:
                    raise StopIteration
                self._read(self._file)
        return self._lines.popleft()

    def close(self) -> None:
        with self._reading:
            self._close_file()

    def _tail(self, file: BinaryIO, count: int) -> deque[str]:
        """Read through the file that is followed: no line falls between these and the next."""
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
        lines = self._splitter.feed(file.read())[-count:]
        return deque(_older(self._path, count - len(lines)) + lines)

    def _read(self, file: BinaryIO) -> None:
        # Asked for before reading: what is printed last is there by then.
        ended = self._ended.is_set()
        chunk = file.read(CHUNK)
        if chunk:
            self._lines.extend(self._splitter.feed(chunk))
        elif self._was_rotated(file):
            self._lines.extend(self._splitter.feed(file.read()))
            self._close_file()
            self._file = self._path.open("rb")
        elif ended:
            self._lines.extend(self._splitter.flush())
            self._close_file()
        else:
            self._ended.wait(POLL_S)

    def _was_rotated(self, file: BinaryIO) -> bool:
        try:
            return not os.path.samestat(self._path.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            return False

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def _older(file: Path, missing: int) -> list[str]:
    return last_lines(rotated(file), missing) if missing > 0 else []
