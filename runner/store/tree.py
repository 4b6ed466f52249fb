"""A folder that is being filled with a model's files, each under a name of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from runner.errors import BadModelFile
from runner.store.files import sync_folder

FILE_MODE = 0o444
FOLDER_MODE = 0o755


class Tree:
    """Names are relative and safe, as `layer_paths.safe_path` returns them. Nobody else may write
    to `root`, which is made here: so no link in it can lead out of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)
        root.chmod(FOLDER_MODE)  # engines run as other users, whatever our umask

    def add_folder(self, name: str) -> None:
        """Makes a folder, and those it is in, where they are not there yet. Raises
        BadModelFile where a file is in the way."""
        path = self.root
        for part in PurePosixPath(name).parts:
            path /= part
            try:
                path.mkdir()
                path.chmod(FOLDER_MODE)
            except FileExistsError:
                if not path.is_dir():
                    raise _taken(name) from None

    def place(self, name: str) -> Path:
        """Where a new file goes; its folders are made. Raises BadModelFile where the name is taken,
        which on some file systems a name is that differs in its case alone."""
        self.add_folder(str(PurePosixPath(name).parent))
        path = self.root / name
        if os.path.lexists(path):
            raise _taken(name)
        return path

    def add_file(self, name: str, content: Iterator[bytes]) -> None:
        """Writes a file, which is on the disk when this returns. Raises BadModelFile where the
        name is taken, OSError."""
        with self.place(name).open("xb", buffering=0) as file:
            for part in content:
                _write_all(file, part)
            os.fchmod(file.fileno(), FILE_MODE)
            os.fsync(file.fileno())

    def files(self) -> dict[str, os.stat_result]:
        """Every file by its name, sorted."""
        found = {
            path.relative_to(self.root).as_posix(): path.lstat()
            for path in self.root.rglob("*")
            if not path.is_dir()
        }
        return dict(sorted(found.items()))

    def sync(self) -> None:
        """Makes all names last through a power cut."""
        for folder in (self.root, *(path for path in self.root.rglob("*") if path.is_dir())):
            sync_folder(folder)


def _taken(name: str) -> BadModelFile:
    return BadModelFile(
        f"two of the model's files want the name {name[:200]!r}",
        hint="the model was packaged wrongly: package its files again",
    )


def _write_all(target: BinaryIO, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[target.write(rest) :]
