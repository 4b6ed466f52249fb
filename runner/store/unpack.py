"""Archives of a model's files, unpacked as they stream, within bounds.

What may be in one is a file or a folder with a safe name; anything else is refused, so that
nothing is written outside the folder, no link is followed, and no bomb goes off.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from runner.artifacts.media import Packing
from runner.errors import BadModelFile
from runner.store.tar_stream import TarEntry, TarStream
from runner.store.tree import Tree

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAX_ENTRIES = 10_000
"""Files and folders of all of a model's archives."""
MAX_UNPACKED = 4 * 1024**4
"""Bytes that all of a model's archives may unpack to."""
MAX_RATIO = 100
"""How often an archive's own size it may unpack to; weights hardly compress at all …"""
SMALL = 256 * 1024 * 1024
"""… but small archives of texts and zeros do, and this many bytes hurt nobody."""
MAX_WINDOW_LOG = 27
"""128 MiB of memory to unpack zstd: what the zstd program allows without being told to."""
_MADE_WRONG = "its maker must package it again"
_DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError)


class Unpacker:
    """Unpacks a model's archives into one folder; what they may hold is counted over all.

    `require_space` raises where so many bytes would not fit on the disk.
    """

    def __init__(self, tree: Tree, require_space: Callable[[int], None]) -> None:
        self._tree = tree
        self._require_space = require_space
        self._entries = 0
        self._unpacked = 0

    def unpack(self, archive: Path, packing: Packing) -> None:
        """Adds the archive's files under the names that it gives them.

        Raises BadModelFile for an archive that is damaged, too large or holds what it must
        not, DiskFull, OSError. What it has written by then is left to the caller.
        """
        allowed = max(SMALL, MAX_RATIO * archive.stat().st_size)
        with _opened(archive, packing) as source:
            stream = TarStream(
                source, _bad, allowed=min(allowed, MAX_UNPACKED - self._unpacked), damaged=_DAMAGED
            )
            for entry in stream.entries():
                self._add(entry, stream)
            stream.finish()
            self._unpacked += stream.position

    def _add(self, entry: TarEntry, stream: TarStream) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise _bad(f"holds more than {MAX_ENTRIES} files")
        if entry.is_folder:
            self._tree.add_folder(entry.name)
            return
        self._require_space(entry.size)
        self._tree.add_file(entry.name, stream.content(entry.size))


@contextmanager
def _opened(archive: Path, packing: Packing) -> Iterator[IO[bytes]]:
    if packing is Packing.TAR_GZIP:
        with gzip.open(archive, "rb") as source:
            yield cast("IO[bytes]", source)
    elif packing is Packing.TAR_ZSTD:
        options = {int(zstd.DecompressionParameter.window_log_max): MAX_WINDOW_LOG}
        with zstd.ZstdFile(archive, "rb", options=options) as source:
            yield cast("IO[bytes]", source)
    else:
        with archive.open("rb") as source:
            yield source


def _bad(what: str) -> BadModelFile:
    return BadModelFile(f"an archive of the model {what}", hint=_MADE_WRONG)
