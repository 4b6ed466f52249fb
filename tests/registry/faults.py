"""Ways in which a registry or its storage host goes wrong, each for one request."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from typing import Self

from tests.registry.exchange import BrokenOff, Exchange

Fault = Callable[[Exchange], bool]
PAGE = b"<!doctype html><html><body>Please log in</body></html>"


def status(code: int, *, retry_after: int | None = None) -> Fault:
    """Answers with a status in place of what was asked for."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return lambda exchange: exchange.answer(code, b"", headers)


def web_page(exchange: Exchange) -> bool:
    """What a captive portal says to everything."""
    return exchange.answer(200, PAGE, {"Content-Type": "text/html; charset=utf-8"})


def disconnect(after: int) -> Fault:
    """Ends the connection after so many bytes of a body, sent or received."""

    def cut(pieces: Iterator[bytes]) -> Iterator[bytes]:
        left = after
        for piece in pieces:
            if len(piece) >= left:
                yield piece[:left]
                raise BrokenOff
            left -= len(piece)
            yield piece

    return _filtered(cut)


def wrong_bytes(exchange: Exchange) -> bool:
    """As many bytes as announced, the first of each piece changed."""
    return _filtered(lambda pieces: (bytes([piece[0] ^ 1]) + piece[1:] for piece in pieces))(
        exchange
    )


def resized(extra: int) -> Fault:
    """Blobs that are longer, or where `extra` is negative shorter, than was announced, by an
    honest Content-Length."""

    def install(exchange: Exchange) -> bool:
        exchange.extra = extra
        return False

    return install


def whole(exchange: Exchange) -> bool:
    """200 and all bytes where a range was asked for."""
    if "Range" in exchange.headers:
        del exchange.headers["Range"]
    return False


def other_range(exchange: Exchange) -> bool:
    """206 that says to begin one byte later than was asked for."""
    start = int(exchange.headers["Range"].removeprefix("bytes=").partition("-")[0]) + 1
    exchange.headers.replace_header("Range", f"bytes={start}-")
    return False


def endless(size: int) -> Fault:
    """A body of so many bytes of JSON's white space, without a length announced."""

    def answer(exchange: Exchange) -> bool:
        exchange.close_connection = True
        exchange.send_response(200)
        exchange.end_headers()
        sent = 0
        while sent < size:
            sent += exchange.wfile.write(b" " * 65536)
        return True

    return answer


def on(number: int, fault: Fault) -> Fault:
    """Only the request of this number goes wrong; for faults that last."""
    lock, seen = threading.Lock(), 0

    def count(exchange: Exchange) -> bool:
        nonlocal seen
        with lock:
            seen += 1
            mine = seen == number
        return mine and fault(exchange)

    return count


class Stall:
    """Sends or takes so many bytes and then none, until it is released or the client leaves."""

    def __init__(self, after: int = 0) -> None:
        self._after = after
        self._released, self._hand = os.pipe()
        self._waiting = 0
        self._changed = threading.Condition()
        self.reached = threading.Event()
        self.left = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._hand)  # wakes those that wait
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting)
        os.close(self._released)

    def __call__(self, exchange: Exchange) -> bool:
        def hold(pieces: Iterator[bytes]) -> Iterator[bytes]:
            left = self._after
            for piece in pieces:
                if 0 <= left < len(piece):
                    yield piece[:left]
                    self._wait(exchange)
                    yield piece[left:]
                    left = -1
                else:
                    left -= len(piece) if left >= 0 else 0
                    yield piece

        return _filtered(hold)(exchange)

    def release(self) -> None:
        """For those that wait, and those still to come."""
        os.write(self._hand, b"!")

    def _wait(self, exchange: Exchange) -> None:
        poll = select.poll()
        poll.register(self._released, select.POLLIN)
        poll.register(exchange.connection, getattr(select, "POLLRDHUP", select.POLLHUP))
        with self._changed:
            self._waiting += 1
        self.reached.set()
        ready = [handle for handle, _ in poll.poll()]
        with self._changed:
            self._waiting -= 1
            self._changed.notify_all()
        if self._released not in ready:
            self.left.set()
            raise BrokenOff


def _filtered(change: Callable[[Iterator[bytes]], Iterator[bytes]]) -> Fault:
    def install(exchange: Exchange) -> bool:
        exchange.filter = change
        return False

    return install
