"""The folders of an instance on this host: made before it starts, and its socket's path."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runner.engines.base import UnixEndpoint
from runner.errors import BadSettings, DiskFull, RunnerError
from runner.home import MAX_SOCKET_PATH
from runner.launch.base import Folders

SOCKET_NAME = "engine.sock"
PRIVATE = 0o700


@dataclass(frozen=True, slots=True)
class Owner:
    """Who the folders shall belong to."""

    uid: int
    gid: int


def engine_socket(folders: Folders) -> UnixEndpoint:
    """Where this host reaches the engine; raises BadSettings where the path is too long."""
    path = str(folders.run / SOCKET_NAME)
    length = len(os.fsencode(path))
    if length > MAX_SOCKET_PATH:
        raise BadSettings(
            f"{path} is too long for a socket: {length} bytes, {MAX_SOCKET_PATH} are possible",
            hint="set RUNNER_HOME to a folder with a shorter path",
        )
    return UnixEndpoint(path)


def make_folders(folders: Folders, owner: Owner | None = None) -> Callable[[], None]:
    """Makes `run` and `cache`, owned by `owner`; what it returns takes them away again.

    A cache that was there or holds something is never removed. Raises RunnerError.
    """
    new_cache = not folders.cache.exists()

    def undo() -> None:
        remove_run_folder(folders)
        if new_cache:
            _remove_empty(folders.cache)

    try:
        _make(folders, owner)
    except OSError as error:
        undo()
        raise _refused(error) from error
    return undo


def remove_run_folder(folders: Folders) -> None:
    shutil.rmtree(folders.run, ignore_errors=True)


def _make(folders: Folders, owner: Owner | None) -> None:
    for folder in (folders.run, folders.cache):
        folder.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
        if owner is not None:
            os.chown(folder, owner.uid, owner.gid)
    # An engine can't bind where the socket of a killed predecessor still lies.
    (folders.run / SOCKET_NAME).unlink(missing_ok=True)


def _remove_empty(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return


def _refused(error: OSError) -> RunnerError:
    if error.errno == errno.ENOSPC:
        return DiskFull(f"no space left for {error.filename}")
    return RunnerError(f"can't make {error.filename}: {error.strerror}")
