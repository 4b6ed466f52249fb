"""Blobs by content: written under a temporary name, checked, then renamed to their digest."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from runner.errors import BadInput, Conflict, CorruptTransfer, DiskFull
from runner.registry.digest import PREFIX, digest_from, digest_of, hex_of, is_digest
from runner.store.files import explained, sync_folder
from runner.store.links import Link, Links
from runner.store.lock import StoreLock

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
    """`blobs/sha256/<hex>`, each read-only and exactly what its name says; some of them hard links
    to files that belong to somebody else."""

    def __init__(self, root: Path, lock: StoreLock) -> None:
        self._root = root
        self._lock = lock
        self._folder = root / "blobs" / "sha256"
        self._temporary = root / "tmp"
        self.links = Links(root, lock)

    def path(self, digest: str) -> Path:
        return self._folder / hex_of(digest)

    def size(self, digest: str) -> int | None:
        """Bytes of a blob that is here, else None; so for a link whose file was edited."""
        try:
            status = self.path(digest).stat()
        except FileNotFoundError:
            return None
        link = self.links.get(digest)
        return status.st_size if link is None or link.is_still(status) else None

    def all(self) -> Iterator[tuple[str, os.stat_result]]:
        """Every blob's digest and the state of its file, in no order."""
        try:
            with os.scandir(self._folder) as entries:
                for entry in entries:
                    if is_digest(PREFIX + entry.name):
                        with suppress(FileNotFoundError):
                            yield PREFIX + entry.name, entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            return

    def check_link(self, digest: str) -> None:
        """Raises Conflict where a blob is a link to a file that was edited after it was
        hashed; says nothing of blobs that are not here."""
        link = self.links.get(digest)
        if link is None:
            return
        with suppress(FileNotFoundError):
            if not link.is_still(self.path(digest).stat()):
                raise Conflict(
                    f"{link.path} was edited after it was packaged",
                    hint="package it again, without --link to keep a copy of its own; "
                    "or pull the model again",
                )

    def require(self, digest: str, size: int) -> Path:
        """Where a blob lies. Raises Conflict where it is missing, or a link whose file was
        edited."""
        self.check_link(digest)
        if self.size(digest) != size:
            raise Conflict(
                f"the model's file {digest} is missing in the store",
                hint="pull or package the model again",
            )
        return self.path(digest)

    def read(self, digest: str) -> bytes:
        """A small blob's content. Raises FileNotFoundError."""
        return self.path(digest).read_bytes()

    def remove(self, *digests: str) -> None:
        """To be called while the lock is held. Files that were linked are writable again where
        they were so before."""
        for digest in digests:
            self._give_back(digest, digests)
            self.path(digest).unlink(missing_ok=True)
        self.links.forget(*digests)

    def _give_back(self, digest: str, leaving: Collection[str]) -> None:
        """Gives a linked file its permissions back, unless another blob is that file too."""
        links = self.links.all()
        link = links.get(digest)
        if link is None or any(
            other.inode == link.inode for key, other in links.items() if key not in leaving
        ):
            return
        path = self.path(digest)
        with suppress(OSError):  # gone, or not ours to change
            status = path.stat()
            is_linked = status.st_ino == link.inode
            if is_linked and link.mode and stat.S_IMODE(status.st_mode) == BLOB_MODE:
                path.chmod(link.mode)

    @contextmanager
    def writer(self, digest: str, size: int) -> Iterator[BlobWriter]:
        """Keeps what is written if it is the blob announced, and nothing otherwise.

        Raises CorruptTransfer, DiskFull.
        """
        with explained(self._root), self._temporary_file() as file:
            writer = BlobWriter(file, digest, size)
            yield writer
            writer.check()
            self.keep(file, Path(file.name), digest)

    def add_bytes(self, content: bytes) -> str:
        """Keeps a small blob; returns its digest."""
        digest = digest_of(content)
        if self.size(digest) != len(content):
            with self.writer(digest, len(content)) as writer:
                writer.write(content)
        return digest

    def add_file(
        self, source: Path, report: Report | None = None, *, link: bool = False
    ) -> tuple[str, int]:
        """Keeps a file's content; returns digest and size.

        The content shares its extents with the source where the file system can do that; else
        it is copied in the same read that hashes it. With `link` the blob is a hard link to the
        source, which becomes read-only. Raises BadInput where the source can't be read or linked,
        or changes meanwhile, DiskFull.
        """
        with explained(source), source.open("rb", buffering=0) as original:
            if not source.is_file():
                raise BadInput(f"{source} is not a file", hint="give the file itself")
            add = self._add_link if link else self._add_copy
            return add(source, original, report)

    def _add_copy(self, source: Path, original: BinaryIO, report: Report | None) -> tuple[str, int]:
        before = os.fstat(original.fileno())
        with explained(self._root), self._temporary_file() as file:
            cloned = _clone(original.fileno(), file.fileno())
            copy = None if cloned else file
            if copy:
                self.require_space(before.st_size)
            digest, size = _hash(file if cloned else original, before.st_size, report, copy)
            _refuse_changed(source, before, os.fstat(original.fileno()), size)
            if self.size(digest) != size or self.links.get(digest):
                self.keep(file, Path(file.name), digest)
        return digest, size

    def _add_link(self, source: Path, original: BinaryIO, report: Report | None) -> tuple[str, int]:
        before = os.fstat(original.fileno())
        with self._temporary_link(source, original) as temporary:
            digest, size = _hash(original, before.st_size, report, None)
            os.fsync(original.fileno())
            after = os.fstat(original.fileno())
            _refuse_changed(source, before, after, size)
            if self.size(digest) != size:
                os.fchmod(original.fileno(), BLOB_MODE)
                self._folder.mkdir(parents=True, exist_ok=True)
                with self._lock.held():  # first the record: never a link without it
                    self.links.record(digest, Link.of(source.resolve(), after))
                    temporary.replace(self.path(digest))
                sync_folder(self._folder)
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
                    if not _is_abandoned(os.fstat(file.fileno())):
                        continue
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
            except OSError:
                continue  # its writer lives, or has just renamed it

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Has `prune` leave every blob alone meanwhile, as those of a model on its way."""
        with ExitStack() as stack:
            with explained(self._root):
                stack.enter_context(self._temporary_file())
            yield

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

    @contextmanager
    def _temporary_link(self, source: Path, original: BinaryIO) -> Iterator[Path]:
        """Made before the file is hashed, so that what can't be linked is said at once."""
        self._temporary.mkdir(parents=True, exist_ok=True)
        path = self._temporary / f"{secrets.token_hex(16)}.part"
        fcntl.flock(original, fcntl.LOCK_SH)  # as with a temporary file: its writer lives
        try:
            try:
                os.link(source.resolve(), path)
            except OSError as error:
                raise _unlinkable(source, error) from error
            if not os.path.samestat(path.stat(), os.fstat(original.fileno())):
                raise BadInput(f"{source} changed while it was read", hint="try again")
            yield path
        finally:
            path.unlink(missing_ok=True)

    def keep(self, file: BinaryIO, path: Path, digest: str) -> None:
        """Makes an open file at `path`, whose content is known to be the blob, that blob."""
        os.fchmod(file.fileno(), BLOB_MODE)
        os.fsync(file.fileno())
        self._folder.mkdir(parents=True, exist_ok=True)
        self._announce_replaced_link(digest, file)
        path.replace(self.path(digest))
        sync_folder(self._folder)
        self._forget_replaced_link(digest, file)

    def _announce_replaced_link(self, digest: str, own: BinaryIO) -> None:
        if self.links.get(digest) is None:
            return
        with self._lock.held():
            link = self.links.get(digest)
            if link:
                inode = os.fstat(own.fileno()).st_ino
                self.links.record(digest, replace(link, successor=inode))
                self._give_back(digest, (digest,))

    def _forget_replaced_link(self, digest: str, own: BinaryIO) -> None:
        if self.links.get(digest) is None:
            return
        with self._lock.held(), suppress(FileNotFoundError):
            if os.path.samestat(self.path(digest).stat(), os.fstat(own.fileno())):
                self.links.forget(digest)


def _is_abandoned(status: os.stat_result) -> bool:
    """A link has its owner's modification time; a clock may have gone back since."""
    changed = status.st_ctime if status.st_nlink > 1 else status.st_mtime
    return abs(time.time() - changed) >= ABANDONED_AFTER


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


def _refuse_changed(source: Path, before: os.stat_result, after: os.stat_result, size: int) -> None:
    if (size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise BadInput(f"{source} changed while it was read", hint="try again")


def _unlinkable(source: Path, error: OSError) -> BadInput:
    reasons = {
        errno.EXDEV: "it is on another file system than the model store",
        errno.EPERM: "it belongs to somebody else, or its file system has no hard links",
        errno.EACCES: "its folder or the model store can't be written to",
        errno.EMLINK: "it has as many links as its file system allows",
    }
    reason = reasons.get(error.errno or 0, error.strerror or str(error))
    return BadInput(
        f"{source} can't be linked: {reason}",
        hint="leave --link out to copy it, or move the store with the setting models_path",
    )


def _write_all(target: BinaryIO, content: memoryview) -> None:
    while content:
        content = content[target.write(content) :]


def _mib(size: int) -> int:
    return -(-size // (1024 * 1024))
