"""One keep-alive connection to an engine: sends a request, passes the answer on as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING, Protocol

from httptools import HttpParserError, HttpResponseParser

from runner.engines.base import Endpoint
from runner.gateway import heads
from runner.gateway.heads import ResponseHead
from runner.gateway.render import Header

if TYPE_CHECKING:
    from runner.gateway.pool import Pool

MAX_RESPONSE_HEAD = 64 * 1024
LARGE_REQUEST = 64 * 1024
"""Longer requests may still be in the write buffer when an engine answers early."""

FIRST_FINAL_STATUS = 200

Write = Callable[[bytes], None]


class Receiver(Protocol):
    """Where an answer goes: `begin` once, then `finished`, or else `lost` at any time."""

    def begin(self, head: ResponseHead, length: bytes | None, body: bytes) -> Write:
        """The head with its Content-Length and the body's first bytes; returns what takes the
        rest.
        """
        ...

    def finished(self) -> None: ...

    def lost(self, upstream: Upstream, clean: bool) -> None:
        """The connection ended before the answer's known end; `clean`: by an orderly close."""
        ...


class ProtocolBroken(Exception):
    """An engine sent more than it announced."""


class Upstream(asyncio.Protocol):
    """Forwards bodies raw, with their chunked framing; the parser only watches for the end."""

    def __init__(self, pool: Pool, endpoint: Endpoint) -> None:
        self.transport: asyncio.Transport = None  # type: ignore[assignment]  # until connected
        self.endpoint = endpoint
        self.idle_since = 0
        self.reused = False
        self.responded = False
        self.last = b""
        self._retired = False
        self._known: ResponseHead | None = None
        self._known_status = 0
        self._known_headers: list[Header] = []
        self._pool = pool
        self._receiver: Receiver | None = None
        # Counted by the C iterators themselves: no Python code runs for a chunk.
        self._opened, self._closed = count(), count()
        self.on_chunk_header = self._opened.__next__
        self.on_chunk_complete = self._closed.__next__
        self._parser = HttpResponseParser(self)

    def send(self, receiver: Receiver, request: bytes, body: bytes | bytearray = b"") -> None:
        """Sends a request; large bodies stay apart from the head so that nothing is copied."""
        self._receiver = receiver
        self._write: Write | None = None
        self._headers: list[Header] = []
        self._length: bytes | None = None
        self._status = 0
        self._interim = 0
        self._held = b""
        self._complete = self._stays_open = self._paused = self.responded = False
        self._large = len(body) > LARGE_REQUEST
        if self._large:
            self.transport.writelines((request, body))
        else:
            self.transport.write(request + body)

    def abandon(self) -> None:
        """Closes the connection at once, which is how an engine learns to stop generating."""
        self._receiver = None
        if self.transport is not None:
            self.transport.abort()

    def pause(self) -> None:
        if not self._paused and not self.transport.is_closing():
            self._paused = True
            self.transport.pause_reading()

    def resume(self) -> None:
        if self._paused and not self.transport.is_closing():
            self.transport.resume_reading()
        self._paused = False

    def retire(self) -> None:
        """Closes the connection after this answer."""
        self._retired = True

    def between_chunks(self) -> bool:
        """Whether the bytes passed on so far end where another chunk may begin; ask once."""
        return next(self._opened) == next(self._closed) and self.last.endswith(b"\n")

    # asyncio's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._receiver is None:
            self._pool.forget(self)
            self.transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self.transport.abort()
            self._lose(clean=False)
            return
        self.last = data
        if self._write is not None:
            self._write(data)
        else:
            self._before_body(data)
        if self._complete:
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self._pool.forget(self)
        self._lose(clean=exc is None)

    # The parser's side

    def on_message_begin(self) -> None:
        if self._complete:
            raise ProtocolBroken

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-length":
            self._length = value
        else:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        if self._status >= FIRST_FINAL_STATUS:
            self._complete = True
            self._stays_open = self._parser.should_keep_alive()  # forgotten after this callback
            return
        self._interim += 1
        self._status = 0
        self._headers = []
        self._length = None

    # The answer's way

    def _before_body(self, data: bytes) -> None:
        self.responded = True
        whole = self._held + data if self._held else data
        if self._status:
            self._begin(whole)
        elif len(whole) > MAX_RESPONSE_HEAD:
            self.transport.abort()
            self._lose(clean=False)
        else:
            self._held = whole

    def _begin(self, whole: bytes) -> None:
        assert self._receiver is not None
        start = 0
        for _ in range(self._interim + 1):
            start = whole.index(b"\r\n\r\n", start) + 4
        self._held = b""
        payload = self._payload(whole[start:])
        write = self._receiver.begin(self._response_head(), self._length, payload)
        self._write = self._writer(write)

    def _response_head(self) -> ResponseHead:
        """Read anew only where it differs from the connection's last one."""
        status, headers = self._status, self._headers
        if self._known is None or self._known_status != status or self._known_headers != headers:
            self._known_status, self._known_headers = status, headers
            self._known = heads.read_response(status, headers)
        return self._known

    def _payload(self, raw: bytes) -> bytes:
        return raw

    def _writer(self, write: Write) -> Write:
        return write

    def _finish(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        self._write = None
        self.resume()
        if self._reusable():
            self._pool.give(self)
        else:
            self.transport.close()
        receiver.finished()

    def _reusable(self) -> bool:
        if self._large and self.transport.get_write_buffer_size():
            return False
        return self._stays_open and not self._retired and not self.transport.is_closing()

    def _lose(self, clean: bool) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            receiver.lost(self, clean)


class DecodingUpstream(Upstream):
    """Takes the chunked framing off, for HTTP/1.0 clients; serves one request."""

    def __init__(self, pool: Pool, endpoint: Endpoint) -> None:
        self._pieces: list[bytes] = []
        self.on_body = self._pieces.append
        super().__init__(pool, endpoint)

    def between_chunks(self) -> bool:
        return True

    def _payload(self, raw: bytes) -> bytes:
        payload = b"".join(self._pieces)
        self._pieces.clear()
        return payload

    def _writer(self, write: Write) -> Write:
        return lambda raw: write(self._payload(raw))

    def _reusable(self) -> bool:
        return False
