"""A model's folder: which of its files belong to the model, in a fixed order."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from runner.artifacts.artifact import MAX_LAYERS
from runner.artifacts.layer_paths import check_paths, safe_path
from runner.artifacts.media import LayerKind, kind_of_file
from runner.errors import BadInput, BadModelFile
from runner.store.files import explained

_HUB_BLOBS = "blobs"
_HUB_SNAPSHOTS = "snapshots"


@dataclass(frozen=True, slots=True)
class FolderFile:
    """`path` is relative to the folder, with slashes; `size` is bytes."""

    path: str
    size: int
    kind: LayerKind


@dataclass(frozen=True)
class Folder:
    """`path` is the folder itself; `files` are in the order of their layers."""

    path: Path
    files: tuple[FolderFile, ...]

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(file.path for file in self.files)

    def of(self, kind: LayerKind) -> tuple[FolderFile, ...]:
        return tuple(file for file in self.files if file.kind is kind)

    def source(self, file: FolderFile | str) -> Path:
        """Where a file of the folder lies."""
        return self.path / (file if isinstance(file, str) else file.path)


def walk(path: Path) -> Folder:
    """The files of a model's folder, sorted folder by folder; what is hidden is left out.

    Links are followed where they stay inside, or lead to the blobs of the Hugging Face cache that
    the folder belongs to. Raises BadInput for every other link, for what is no file, for names
    that can't be kept, and where there is nothing.
    """
    with explained(path):
        root = Path(os.path.realpath(path, strict=True))
        if not root.is_dir():
            raise BadInput(f"{path} is not a folder", hint="a GGUF file is packaged with --gguf")
        found = _files(root, _roots(root))
        files = tuple(sorted(found, key=lambda file: file.path.split("/")))
    if not files:
        raise BadInput(f"{path} holds no files", hint="name the folder that holds the weights")
    try:
        check_paths(file.path for file in files)
    except BadModelFile as error:
        raise BadInput(f"{path}: {error.message}", hint="rename one of the files") from error
    return Folder(root, files)


def _roots(root: Path) -> tuple[Path, ...]:
    """Folders that links may lead into."""
    in_cache = root.parent.name == _HUB_SNAPSHOTS
    return (root, root.parent.parent / _HUB_BLOBS) if in_cache else (root,)


def _files(root: Path, allowed: tuple[Path, ...]) -> Iterator[FolderFile]:
    count = 0
    folders = [""]
    while folders:
        for entry in _entries(root / folders.pop()):
            name = entry.path.removeprefix(f"{root}/")
            if entry.is_dir(follow_symlinks=False):
                folders.append(name)
                continue
            count += 1
            if count > MAX_LAYERS:
                raise BadInput(
                    f"{root} holds more than {MAX_LAYERS} files",
                    hint="take out what does not belong to the model",
                )
            yield FolderFile(_checked(name), _size(Path(entry), allowed), kind_of_file(name))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return [entry for entry in entries if not entry.name.startswith(".")]


def _checked(name: str) -> str:
    try:
        name.encode()
        return safe_path(name)
    except (BadModelFile, UnicodeEncodeError) as error:
        raise BadInput(f"a model can't hold a file called {name!r}", hint="rename it") from error


def _size(path: Path, allowed: tuple[Path, ...]) -> int:
    target = Path(os.path.realpath(path, strict=True))  # resolve() raises RuntimeError for loops
    if not any(target.is_relative_to(folder) for folder in allowed):
        raise BadInput(
            f"{path} is a link that leads out of the model's folder",
            hint="put the file itself there, or take the link away",
        )
    found = target.stat()
    if not stat.S_ISREG(found.st_mode):
        raise BadInput(f"{path} is not a file", hint="take it out of the model's folder")
    return found.st_size
