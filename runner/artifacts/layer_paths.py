"""Where a model's files lie: relative paths that stay inside its folder and never clash. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from runner.errors import BadModelFile

MAX_PATH = 1024
MAX_NAME = 255
_DRIVE = re.compile("[A-Za-z]:")


def safe_path(path: object) -> str:
    """A file's path within its model, without a leading `./`; empty for none.

    Raises BadModelFile for one that leads elsewhere, or means another file on another system:
    absolute, with `..`, `.` or empty parts, a drive letter, backslashes, control characters.
    """
    if not isinstance(path, str):
        raise BadModelFile("a layer's path is no text")
    if not path:
        return ""
    kept = path.removeprefix("./")
    parts = kept.split("/")
    outside = ".." in parts or path.startswith("/") or "\\" in path or _DRIVE.match(path)
    if outside:
        raise BadModelFile(f"a layer's path leads out of the model: {path[:80]!r}")
    if not kept.isprintable() or "" in parts or "." in parts:
        raise BadModelFile(f"a layer's path is no usable file name: {path[:80]!r}")
    longest = max(len(part.encode()) for part in parts)
    if longest > MAX_NAME or len(kept.encode()) > MAX_PATH:
        raise BadModelFile(f"a layer's path is too long: {path[:80]!r}…")
    return kept


def check_paths(paths: Iterable[str]) -> None:
    """Raises BadModelFile where two paths can't lie in one folder: the same one twice, told apart
    only by how their letters are composed, or one file where another needs a folder."""
    files: dict[str, str] = {}
    for path in paths:
        plain = unicodedata.normalize("NFC", path)
        if plain in files:
            raise BadModelFile(f"two layers share the path {path!r}")
        files[plain] = path
    for plain, path in files.items():
        for folder in PurePosixPath(plain).parents:
            if str(folder) in files:
                raise BadModelFile(
                    f"two layers clash: {files[str(folder)]!r} is a file and the folder of {path!r}"
                )
