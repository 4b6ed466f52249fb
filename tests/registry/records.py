"""What a test registry remembers of each request, and of the bytes that it served."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """`body` is empty for uploads, which may be long."""

    method: str
    path: str
    query: str
    authorization: str
    range: str
    body: bytes


@dataclass(frozen=True)
class Served:
    """Bytes of a blob that went out; `end` is not included."""

    digest: str
    start: int
    end: int


@dataclass
class Ledger:
    """Which bytes went out, by the registry itself or by its storage host."""

    parts: list[Served] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, digest: str, start: int, end: int) -> None:
        with self.lock:
            self.parts.append(Served(digest, start, end))

    def total(self, digest: str) -> int:
        """How many of a blob's bytes went out, some perhaps twice."""
        with self.lock:
            return sum(part.end - part.start for part in self.parts if part.digest == digest)

    def twice(self, digest: str) -> int:
        """How many of a blob's bytes went out that had gone out before."""
        with self.lock:
            parts = sorted((p.start, p.end) for p in self.parts if p.digest == digest)
        reached = again = 0
        for start, end in parts:
            again += max(0, min(end, reached) - start)
            reached = max(reached, end)
        return again
