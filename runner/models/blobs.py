"""Blobs by content: written under a temporary name, checked, then renamed to their digest."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from runner.errors import BadInput, CorruptTransfer, DiskFull
from runner.models.files import explained, sync_folder
from runner.registry.digest import digest_from, digest_of, hex_of

BLOCK = 4 * 1024 * 1024
BLOB_MODE = 0o444
SPARE_SPACE = 64 * 1024 * 1024
ABANDONED_AFTER = 60.0
_FICLONE = 0x40049409  # Linux: share the source's extents

Report = Callable[[int], None]
"""Told how many bytes have passed so far."""


class BlobWriter:
    """Takes one blob's bytes; made by `Blobs.writer`, which checks them at the end."""

    def __init__(self, file: BinaryIO, digest: str, size: int) -> None:
        self._file = file
        self._digest = digest
        self._size = size
        self._hash = hashlib.sha256()
        self.written = 0

    def write(self, content: bytes) -> None:
        """Raises CorruptTransfer once more has come than was announced."""
        self.written += len(content)
        if self.written > self._size:
            raise CorruptTransfer(
                f"{self._digest} is larger than the {self._size} bytes announced", hint="try again"
            )
        self._hash.update(content)
        _write_all(self._file, memoryview(content))

    def check(self) -> None:
        """Raises CorruptTransfer where size or digest are not those announced."""
        if self.written != self._size:
            raise CorruptTransfer(
                f"{self._digest} came as {self.written} bytes, {self._size} were announced",
                hint="try again",
            )
        found = digest_from(self._hash.hexdigest())
        if found != self._digest:
            raise CorruptTransfer(f"{self._digest} came as {found}", hint="try again")


class Blobs:
    """`blobs/sha256/<hex>`, each read-only and exactly what its name says."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / "blobs" / "sha256"
        self._temporary = root / "tmp"

    def path(self, digest: str) -> Path:
        return self._folder / hex_of(digest)

    def size(self, digest: str) -> int | None:
        """Bytes of a blob that is here, else None."""
        try:
            return self.path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, digest: str) -> bytes:
        """A small blob's content. Raises FileNotFoundError."""
        return self.path(digest).read_bytes()

    def remove(self, digest: str) -> None:
        self.path(digest).unlink(missing_ok=True)

    @contextmanager
    def writer(self, digest: str, size: int) -> Iterator[BlobWriter]:
        """Keeps what is written if it is the blob announced, and nothing otherwise.

        Raises CorruptTransfer, DiskFull.
        """
        with explained(self._root), self._temporary_file() as file:
            writer = BlobWriter(file, digest, size)
            yield writer
            writer.check()
            self._keep(file, digest)

    def add_bytes(self, content: bytes) -> str:
        """Keeps a small blob; returns its digest."""
        digest = digest_of(content)
        if self.size(digest) != len(content):
            with self.writer(digest, len(content)) as writer:
                writer.write(content)
        return digest

    def add_file(self, source: Path, report: Report | None = None) -> tuple[str, int]:
        """Keeps a file's content; returns digest and size.

        The content shares its extents with the source where the file system can do that; else
        it is copied in the same read that hashes it. Raises BadInput where the source can't be
        read or changes meanwhile, DiskFull.
        """
        with explained(source), source.open("rb", buffering=0) as original:
            before = os.fstat(original.fileno())
            if not source.is_file():
                raise BadInput(f"{source} is not a file")
            with explained(self._root), self._temporary_file() as file:
                cloned = _clone(original.fileno(), file.fileno())
                copy = None if cloned else file
                if copy:
                    self.require_space(before.st_size)
                digest, size = _hash(file if cloned else original, before.st_size, report, copy)
                after = os.fstat(original.fileno())
                if (size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                    raise BadInput(f"{source} changed while it was read", hint="try again")
                if self.size(digest) != size:
                    self._keep(file, digest)
        return digest, size

    def require_space(self, size: int) -> None:
        """Raises DiskFull where `size` bytes would not fit."""
        self._root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self._root).free
        if size + SPARE_SPACE > free:
            raise DiskFull(
                f"{_mib(size + SPARE_SPACE)} MiB must be free in {self._root} (some as a reserve), "
                f"{_mib(free)} MiB are",
                hint="free some space: runner rm MODEL removes models",
            )

    def sweep(self) -> None:
        """Removes temporary files whose writers have died."""
        for path in self._temporary.glob("*.part"):
            try:
                with path.open("rb") as file:
                    if time.time() - os.fstat(file.fileno()).st_mtime < ABANDONED_AFTER:
                        continue
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
            except OSError:
                continue  # its writer lives, or has just renamed it

    @contextmanager
    def _temporary_file(self) -> Iterator[BinaryIO]:
        """A locked file: the lock, not the clock, says that its writer lives."""
        self._temporary.mkdir(parents=True, exist_ok=True)
        path = self._temporary / f"{secrets.token_hex(16)}.part"
        with path.open("x+b", buffering=0) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
            finally:
                path.unlink(missing_ok=True)

    def _keep(self, file: BinaryIO, digest: str) -> None:
        os.fchmod(file.fileno(), BLOB_MODE)
        os.fsync(file.fileno())
        self._folder.mkdir(parents=True, exist_ok=True)
        os.replace(file.name, self.path(digest))  # noqa: PTH105 - the name is a plain text
        sync_folder(self._folder)


def _clone(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError:
        return False
    return True


def _hash(
    source: BinaryIO, expected: int, report: Report | None, copy: BinaryIO | None
) -> tuple[str, int]:
    """Stops beyond the expected size: a file that grows while it is read has no end."""
    digest, size = hashlib.sha256(), 0
    block = memoryview(bytearray(BLOCK))
    source.seek(0)
    while size <= expected and (count := source.readinto(block)):  # type: ignore[attr-defined]
        digest.update(block[:count])
        if copy:
            _write_all(copy, block[:count])
        size += count
        if report:
            report(size)
    return digest_from(digest.hexdigest()), size


def _write_all(target: BinaryIO, content: memoryview) -> None:
    while content:
        content = content[target.write(content) :]


def _mib(size: int) -> int:
    return -(-size // (1024 * 1024))
