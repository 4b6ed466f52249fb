"""A blob on its way into the store: the bytes that are in, and a journal that says which.

`partial/<hex>` has the blob's full length and holes; `partial/<hex>.log` one line per range
written, appended after the bytes. A program that is killed therefore loses what came since its
last lines, and nothing is trusted: the whole blob is hashed before it is kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from runner.registry.digest import digest_from, hex_of
from runner.store.blobs import Blobs
from runner.store.files import start_writeback
from runner.store.ranges import Ranges

BLOCK = 1024 * 1024
_LINE = "{} {}\n"
_LONGEST_LINE = 40
_STAT_BLOCK = 512


class Partial:
    """One blob's bytes so far, written by several threads of the one process that has it open."""

    def __init__(self, data: BinaryIO, path: Path, journal: Path) -> None:
        self._data = data
        self._path = path
        self._journal = journal
        self._log = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._lock = threading.Lock()
        self.ranges = Ranges()
        size = os.fstat(data.fileno()).st_size
        for start, end in _lines(journal):
            if end <= size:
                self.ranges.add(start, end)
        self.hash = PrefixHash(data.fileno())

    def write(self, offset: int, content: bytes | memoryview) -> None:
        view = memoryview(content)
        while view:
            written = os.pwrite(self._data.fileno(), view, offset)
            view, offset = view[written:], offset + written

    def wrote(self, start: int, end: int) -> None:
        """Enters bytes that are written into the journal, and has the disk take them now: else it
        would begin when the last has come, and the download would wait for all of it."""
        if start == end:
            return
        start_writeback(self._data.fileno(), start, end)
        with self._lock:
            os.write(self._log, _LINE.format(start, end).encode())
            self.ranges.add(start, end)

    def keep(self, blobs: Blobs, digest: str) -> None:
        """Makes it a blob: the caller has checked that it is one."""
        blobs.keep(self._data, self._path, digest)
        self._journal.unlink(missing_ok=True)

    def hash_anew(self) -> None:
        """Trusts the file alone, once nobody writes to it any more."""
        self.hash = PrefixHash(self._data.fileno())

    def discard(self) -> None:
        """Forgets everything that was written."""
        with self._lock:
            os.ftruncate(self._log, 0)
            self.ranges = Ranges()
            self.hash = PrefixHash(self._data.fileno())

    def remove(self) -> None:
        """Closes it and removes its files: the blob has come another way."""
        self._path.unlink(missing_ok=True)
        self._journal.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Lets go of it; what was written stays for the next attempt."""
        os.close(self._log)
        self._data.close()


class PrefixHash:
    """SHA-256 of a file's beginning, taken while later bytes are still on their way."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._hash = hashlib.sha256()
        self._position = 0
        self._lock = threading.Lock()

    def offer(self, start: int, content: bytes | memoryview) -> None:
        """Takes bytes that are at hand anyway, if they are the next in line."""
        if start == self._position and self._lock.acquire(blocking=False):
            try:
                if start == self._position:
                    self._hash.update(content)
                    self._position += len(content)
            finally:
                self._lock.release()

    def catch_up(self, limit: int, *, most: int | None = None) -> None:
        """Reads back what is written up to `limit`, at most `most` bytes of it; leaves it to
        whoever is at it already."""
        if self._lock.acquire(blocking=False):
            try:
                self._read(limit if most is None else min(limit, self._position + most))
            finally:
                self._lock.release()

    def digest(self, size: int) -> str:
        """The digest of the first `size` bytes, all of them written."""
        with self._lock:
            self._read(size)
            return digest_from(self._hash.hexdigest())

    def _read(self, limit: int) -> None:
        while self._position < limit:
            content = os.pread(self._handle, min(BLOCK, limit - self._position), self._position)
            if not content:
                return  # cut short from outside: the digest will tell
            self._hash.update(content)
            self._position += len(content)


class Partials:
    """`partial/`: every blob that is not whole yet."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "partial"

    def done(self, digest: str) -> int:
        """Bytes that are in, whoever fetches them."""
        found = Ranges()
        for start, end in _lines(self._journal(digest)):
            found.add(start, end)
        return found.total

    def on_disk(self, digest: str) -> int:
        """Bytes that the file system has given out for it."""
        try:
            return (self._folder / hex_of(digest)).stat().st_blocks * _STAT_BLOCK
        except FileNotFoundError:
            return 0

    def open(self, digest: str, size: int) -> Partial | None:
        """Takes a blob up where it was left; None while somebody else has it open."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / hex_of(digest)
        data = _locked(path)
        if data is None:
            return None
        journal = self._journal(digest)
        try:
            if os.fstat(data.fileno()).st_size != size:
                journal.unlink(missing_ok=True)
                os.ftruncate(data.fileno(), 0)
                os.ftruncate(data.fileno(), size)
            return Partial(data, path, journal)
        except BaseException:
            data.close()
            raise

    def _journal(self, digest: str) -> Path:
        return self._folder / f"{hex_of(digest)}.log"


def _locked(path: Path) -> BinaryIO | None:
    while True:
        data = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644), "r+b", 0)
        try:
            fcntl.flock(data, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(data.fileno()), path.stat()):
                return data
        except BlockingIOError:
            data.close()
            return None
        except FileNotFoundError:
            pass  # it has become a blob between our opening and locking it
        data.close()


def _lines(journal: Path) -> Iterator[tuple[int, int]]:
    """The last line may be torn; what is no range is no line."""
    try:
        text = journal.read_text("ascii", "replace")
    except FileNotFoundError:
        return
    for line in text.split("\n")[:-1]:
        start, _, end = line.partition(" ")
        if start.isdecimal() and end.isdecimal() and len(line) <= _LONGEST_LINE:
            yield int(start), int(end)
