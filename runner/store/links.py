"""links.json: blobs that are hard links to somebody's own files, and what those were like.

Such a file is its owner's still: an edit in place changes the blob. So what it was like when it
was hashed is recorded, and compared before every use.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from runner.errors import Conflict
from runner.store.files import write_whole
from runner.store.lock import StoreLock


@dataclass(frozen=True, slots=True)
class Link:
    """A file as it was when it was linked. `path` is where it lay then; `successor` is the inode
    of a copy of our own that is about to take the blob's place; `mode` is its permissions, which
    it gets back when the store drops it (0 where a record of old does not tell).

    Its device is not kept: the numbers of devices change from one start of a machine to the next.
    """

    path: str
    inode: int
    size: int
    mtime_ns: int
    successor: int = 0
    mode: int = 0

    @classmethod
    def of(cls, path: Path, status: os.stat_result) -> Link:
        return cls(
            os.fsdecode(path),
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            mode=stat.S_IMODE(status.st_mode),
        )

    def is_still(self, status: os.stat_result) -> bool:
        """Whether a blob is this file, unedited as far as can be told without reading it; or
        the copy of our own, whose writer was killed before it could forget the link."""
        now = (status.st_ino, status.st_size, status.st_mtime_ns)
        return now == (self.inode, self.size, self.mtime_ns) or status.st_ino == self.successor


class Links:
    """The record, by blobs' digests; read afresh when it has changed."""

    def __init__(self, root: Path, lock: StoreLock) -> None:
        self._file = root / "links.json"
        self._lock = lock
        self._cache: tuple[tuple[int, int], Mapping[str, Link]] | None = None

    def all(self) -> Mapping[str, Link]:
        """Raises Conflict where the record can't be read."""
        try:
            status = self._file.stat()
        except FileNotFoundError:
            return {}
        generation = (status.st_mtime_ns, status.st_ino)
        cache = self._cache
        if cache and cache[0] == generation:
            return cache[1]
        found = self._read()
        self._cache = (generation, found)
        return found

    def get(self, digest: str) -> Link | None:
        return self.all().get(digest)

    def record(self, digest: str, link: Link) -> None:
        with self._lock.held():
            self.replace({**self.all(), digest: link})

    def forget(self, *digests: str) -> None:
        """Costs nothing where none of them is a link."""
        if not any(digest in self.all() for digest in digests):
            return
        with self._lock.held():
            self.replace({d: link for d, link in self.all().items() if d not in digests})

    def replace(self, links: Mapping[str, Link]) -> None:
        """Writes the whole record. To be called while the lock is held."""
        document = {"links": {digest: asdict(link) for digest, link in links.items()}}
        write_whole(self._file, json.dumps(document, indent=1).encode())

    def _read(self) -> Mapping[str, Link]:
        try:
            document = json.loads(self._file.read_bytes())
            return {str(d): _link(fields) for d, fields in document["links"].items()}
        except FileNotFoundError:
            return {}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Conflict(
                f"the list of linked files {self._file} is not readable",
                hint="runner check --repair makes it anew",
            ) from error


def _link(fields: Mapping[str, object]) -> Link:
    names = ("inode", "size", "mtime_ns", "successor", "mode")
    told = {"mode": 0, **fields}
    return Link(str(fields["path"]), *(int(str(told[name])) for name in names))
