"""Files that are written whole or not at all, and what the system's refusals mean."""

from __future__ import annotations

import errno
import functools
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.errors import BadInput, DiskFull, RunnerError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_SYNC_FILE_RANGE_WRITE = 2


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turns what the operating system refuses about `path` into DiskFull or BadInput."""
    try:
        yield
    except OSError as error:
        raise explain(error, path) from error


def explain(error: OSError, path: Path) -> RunnerError:
    if error.errno in _FULL:
        return DiskFull(
            f"no space is left for {path}", hint="free some space: runner rm MODEL removes models"
        )
    return BadInput(f"can't use {path}: {error.strerror or error}")


def write_whole(path: Path, content: bytes, *, mode: int = 0o644) -> None:
    """Readers see the old content or the new one; the new one is on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames within a folder last through a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def start_writeback(handle: int, start: int, end: int) -> None:
    """Has Linux write these bytes of a file to the disk now, without waiting for it; elsewhere it
    writes them when it likes. Only speed hangs on it, so refusals are passed over."""
    if sync_range := _sync_file_range():
        sync_range(handle, start, end - start, _SYNC_FILE_RANGE_WRITE)


@functools.cache
def _sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """sync_file_range(2), which Python's `os` lacks; None where the system has none."""
    import ctypes

    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function:
        function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return function
