"""Tar archives that others wrote, read as they stream: nothing is sought, and memory is bounded.

What may be in one is a file or a folder with a safe name; anything else is refused.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from runner.artifacts.artifact import MAX_BLOB
from runner.artifacts.layer_paths import safe_path
from runner.errors import BadModelFile

MAX_RECORD = 1024 * 1024
"""Bytes of a tar record that describes the next entry, such as a long name."""
MAX_RECORDS = 100_000
BLOCK = 512
_CHUNK = 1024 * 1024
_LONGEST_NUMBER = len(str(MAX_BLOB))
_PAX_GLOBAL = tarfile.XGLTYPE
_RECORDS = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)
_REFUSED = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


@dataclass(frozen=True, slots=True)
class TarEntry:
    """A file or a folder; its content is yet to come."""

    name: str
    size: int
    is_folder: bool


@dataclass(frozen=True, slots=True)
class _Said:
    """What records before an entry say of it, in place of its own header."""

    name: str = ""
    size: int | None = None


class Readable(Protocol):
    """What an archive is read from; it need not be able to seek."""

    def read(self, size: int, /) -> bytes:
        """At most so many bytes, none at the end."""


class TarStream:
    """An archive's bytes, `allowed` of them at most; every refusal is what `bad` makes of it.

    `damaged` is what the source raises where it can't be unpacked.
    """

    def __init__(
        self,
        source: Readable,
        bad: Callable[[str], BadModelFile],
        *,
        allowed: int = MAX_BLOB,
        damaged: tuple[type[Exception], ...] = (),
    ) -> None:
        self._source = source
        self._allowed = allowed
        self._damaged = damaged
        self.bad = bad
        self.position = 0

    def entries(self) -> Iterator[TarEntry]:
        """Each entry's content is to be taken before the next one is asked for."""
        said = _Said()
        records = 0
        while any(block := self.read(BLOCK)):
            header = self._header(block)
            if header.type in _RECORDS:
                records += 1
                if records > MAX_RECORDS:
                    raise self.bad("holds too many records")
                said = self._read_record(header, said)
                continue
            entry = self._entry(header, said)
            said = _Said()
            if entry.name:
                yield entry

    def read(self, size: int) -> bytes:
        """So many bytes; raises BadModelFile where the archive ends before."""
        content = b"".join(self._parts(size))
        if len(content) < size:
            raise self.bad("is cut short")
        return content

    def content(self, size: int) -> Iterator[bytes]:
        """An entry's bytes in parts; takes its padding too."""
        missing = size
        for part in self._parts(size):
            missing -= len(part)
            yield part
        if missing:
            raise self.bad("is cut short")
        self.read(-size % BLOCK)

    def finish(self) -> None:
        """Reads to the end, where compressed archives have a checksum."""
        while part := self._take(_CHUNK):
            if part.strip(b"\0"):
                raise self.bad("holds something after its end")

    def _parts(self, size: int) -> Iterator[bytes]:
        while size and (part := self._take(min(size, _CHUNK))):
            size -= len(part)
            yield part

    def _take(self, size: int) -> bytes:
        try:
            content = self._source.read(size)
        except self._damaged as error:
            reason = str(error) or "it ends too early"
            raise self.bad(f"is damaged: {reason}") from error
        self.position += len(content)
        if self.position > self._allowed:
            raise self.bad(f"unpacks to more than the {self._allowed} bytes that its size allows")
        return content

    def _header(self, block: bytes) -> tarfile.TarInfo:
        try:
            return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.HeaderError, ValueError, OverflowError) as error:
            raise self.bad(f"is no readable tar: {error}") from error

    def _read_record(self, header: tarfile.TarInfo, said: _Said) -> _Said:
        if not 0 <= header.size <= MAX_RECORD:
            raise self.bad(f"holds a record of {header.size} bytes")
        content = b"".join(self.content(header.size))
        if header.type == tarfile.GNUTYPE_LONGNAME:
            return _Said(content.rstrip(b"\0").decode("utf-8", "surrogateescape"), said.size)
        if header.type == tarfile.GNUTYPE_LONGLINK:
            return said  # of a link, which is refused when it comes
        stated = self._pax(content)
        if header.type == _PAX_GLOBAL:
            if stated.keys() & {"path", "size"}:
                raise self.bad("gives all of its files one name or size")
            return said
        name = stated.get("path", said.name)
        return _Said(name, self._number(stated["size"]) if "size" in stated else said.size)

    def _pax(self, content: bytes) -> dict[str, str]:
        """Records of the form `LENGTH KEY=VALUE\\n`."""
        content = content.rstrip(b"\0")
        stated: dict[str, str] = {}
        start = 0
        while start < len(content):
            space = content.find(b" ", start, start + _LONGEST_NUMBER + 1)
            end = start + self._number(content[start:space].decode("ascii", "replace"))
            record = content[space + 1 : end].decode("utf-8", "surrogateescape")
            key, equals, value = record.partition("=")
            if not equals or not value.endswith("\n") or end > len(content):
                raise self.bad("holds a damaged record")
            if key.startswith("GNU.sparse"):
                raise self.bad(f"holds {_REFUSED[tarfile.GNUTYPE_SPARSE]}")
            stated[key] = value[:-1]
            start = end
        return stated

    def _number(self, digits: str) -> int:
        if not (digits.isascii() and digits.isdigit()) or len(digits) > _LONGEST_NUMBER:
            raise self.bad("holds a damaged record")
        return int(digits)

    def _entry(self, header: tarfile.TarInfo, said: _Said) -> TarEntry:
        """An empty name is the model's own folder, which is there."""
        name = said.name or header.name
        size = header.size if said.size is None else said.size
        if header.type in _REFUSED or not (header.isreg() or header.isdir()):
            what = _REFUSED.get(header.type, "something that is no file")
            raise self.bad(f"holds {what}: {name[:200]!r}; files and folders can be unpacked")
        if not 0 <= size <= MAX_BLOB:
            raise self.bad(f"gives {name[:200]!r} an impossible size")
        if header.isdir():
            name = name.rstrip("/")
            return TarEntry("" if name == "." else self._safe(name), 0, True)
        if not name:
            raise self.bad("holds a file without a name")
        return TarEntry(self._safe(name), size, False)

    def _safe(self, name: str) -> str:
        try:
            return safe_path(name)
        except BadModelFile as error:
            raise self.bad(f"holds a file whose path can't be used: {name[:80]!r}") from error
