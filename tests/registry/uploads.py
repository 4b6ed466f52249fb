"""Upload sessions of the test registry: chunks arrive at the right place or not at all."""

from __future__ import annotations

import hashlib
import re
import tempfile
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_HELD = 16 * 1024 * 1024
_CONTENT_RANGE = re.compile(r"(?:bytes )?(\d+)-(\d+)(?:/.*)?")


@dataclass
class Upload:
    """One session. Its bytes lie in a file once they are many."""

    number: int
    repository: str
    min_chunk: int
    offset: int = 0
    ended: bool = False
    hash: hashlib._Hash = field(default_factory=hashlib.sha256)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(_HELD)  # noqa: SIM115 - lives with the session

    @property
    def location(self) -> str:
        """Names the offset, as distribution's own state does."""
        return f"/v2/{self.repository}/blobs/uploads/{self.number}?state={self.offset}"

    @property
    def headers(self) -> dict[str, str]:
        return {
            "Location": self.location,
            "Range": f"0-{max(0, self.offset - 1)}",
            "Docker-Upload-UUID": str(self.number),
        }

    def accepts(self, content_range: str, state: str, length: int | None) -> bool:
        """Whether a chunk belongs where the last one ended, and is no longer too small."""
        match = _CONTENT_RANGE.fullmatch(content_range)
        placed = not content_range or (match is not None and int(match[1]) == self.offset)
        fits = match is None or length is None or int(match[2]) - int(match[1]) + 1 == length
        return placed and fits and state == str(self.offset) and not self.ended

    def append(self, content: Iterable[bytes]) -> None:
        """A chunk smaller than the least one asked for must be the last."""
        before = self.offset
        for piece in content:
            self._file.write(piece)
            self.hash.update(piece)
            self.offset += len(piece)
        self.ended = self.offset - before < self.min_chunk

    def keep(self, folder: Path) -> bytes | Path:
        """All bytes, or the file that they were moved to."""
        with self._file as file:
            file.seek(0)
            if self.offset <= _HELD:
                return file.read()
            path = folder / self.hash.hexdigest()
            with path.open("wb") as kept:
                while piece := file.read(1024 * 1024):
                    kept.write(piece)
            return path

    def forget(self) -> None:
        self._file.close()
