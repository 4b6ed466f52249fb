"""One request's bytes, in and out, and the ways in which they can go wrong on their way."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from itertools import chain

from tests.registry.content import PIECE, Content, content_of, pieces
from tests.registry.throttle import Throttle

Filter = Callable[[Iterator[bytes]], Iterator[bytes]]
"""Pieces of a body, changed on their way; raises BrokenOff to end the connection."""


class BrokenOff(Exception):
    """The connection is to end without a word."""


class Exchange(BaseHTTPRequestHandler):
    """Bodies in pieces, through a throttle and through `filter`.

    A fault may set the filter, and with `extra` how many bytes more or less than it should a
    blob's body has.
    """

    protocol_version = "HTTP/1.1"
    filter: Filter
    extra: int

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def begin(self, throttle: Throttle) -> None:
        """To be called for every request: a connection carries many."""
        self._throttle = throttle
        self.filter, self.extra = iter, 0
        self.length = int(length) if (length := self.headers.get("Content-Length")) else None
        chunked = self.headers.get("Transfer-Encoding") == "chunked"
        self._rest = self._chunked() if chunked else self._counted(self.length or 0)

    def incoming(self) -> Iterator[bytes]:
        """The request's body."""
        for piece in self.filter(self._rest):
            self._throttle.passed(len(piece))
            yield piece

    def drain(self) -> None:
        """Takes what is left of a body, so that the connection can go on."""
        if not self.close_connection:
            for _ in self._rest:
                pass

    def answer(
        self, status: int, content: bytes = b"", headers: dict[str, str] | None = None
    ) -> bool:
        """True, so that a fault can end with it."""
        self.head(status, headers or {}, len(content))
        if self.command != "HEAD":
            self.wfile.write(content)
        return True

    def stream(
        self,
        status: int,
        content: Iterable[bytes],
        size: int,
        headers: dict[str, str] | None = None,
        report: Callable[[int], None] = lambda _: None,
    ) -> bool:
        """An answer in pieces; `report` is told the length of each, before its reader can act."""
        self.head(status, headers or {}, size)
        if self.command != "HEAD":
            for piece in self.filter(iter(content)):
                self._throttle.passed(len(piece))
                report(len(piece))
                self.wfile.write(piece)
        return True

    def head(self, status: int, headers: dict[str, str], size: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(size))
        self.end_headers()

    def break_off(self, content: bytes, announced: int) -> bool:
        """Sends less than announced, then closes."""
        self.close_connection = True
        return self.answer(200, content, {"Content-Length": str(announced)})

    def send(self, blob: bytes | Content, report: Callable[[int, int], None]) -> bool:
        """A blob, or the part of it that the Range header asks for; `report` is told what went
        out, from where to where."""
        asked = self.headers.get("Range", "")
        content = content_of(blob)
        start, end, status = 0, content.size, 200
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", asked):
            start, end = int(match[1]), min(end, int(match[2] or content.size) + 1)
            if start >= end:
                return self.answer(416, b"", {"Content-Range": f"bytes */{content.size}"})
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{content.size}"
            status = 206
        place = start

        def went(length: int) -> None:
            nonlocal place
            report(place, place + length)
            place += length

        body = chain(pieces(content, start, end + min(0, self.extra)), _zeros(self.extra))
        return self.stream(status, body, max(0, end - start + self.extra), headers, went)

    @contextmanager
    def breaking_off(self) -> Iterator[None]:
        try:
            yield
        except BrokenOff:
            self.close_connection = True

    def _counted(self, left: int) -> Iterator[bytes]:
        while left and (piece := self.rfile.read1(min(PIECE, left))):
            left -= len(piece)
            yield piece
        if left:
            raise BrokenOff

    def _chunked(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()


def _zeros(count: int) -> Iterator[bytes]:
    if count > 0:
        yield bytes(count)
