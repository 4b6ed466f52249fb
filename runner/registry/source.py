"""Where the bytes of a blob come from: any range of it, from whichever host holds it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, Self

from runner.errors import RegistryError

if TYPE_CHECKING:
    import requests

    from runner.registry.http import Http

_OK, _PARTIAL = 200, 206
ATTEMPTS = 5
"""At a small range."""
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_CHANGED = "a proxy between may change what it sends: ask for the registry without it"


class Interrupted(Exception):
    """A connection that broke while a body was passing: worth another attempt."""

    def __init__(self, reason: RegistryError) -> None:
        super().__init__(reason.message)
        self.reason = reason


Content = bytes | memoryview
"""Some bytes of a blob, good until the next ones are read."""


class Body(Protocol):
    """A blob's bytes from `start` on, as they arrive.

    `whole` bodies begin at 0 whatever was asked for; `total` is the blob's size, if it is told.
    """

    start: int
    whole: bool
    total: int | None

    def read(self, size: int) -> Content:
        """At most `size` bytes, none at the end; raises Interrupted."""

    def interrupt(self) -> None:
        """Has a `read` that waits in another thread raise Interrupted."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class ByteSource(Protocol):
    """A blob that can be read in ranges, by several threads at once."""

    def open(self, start: int, end: int) -> Body:
        """Bytes from `start` to `end` (not included), or, where the host knows no ranges, all
        from the beginning. Raises RegistryError and its kind, Interrupted, ShuttingDown."""

    def pause(self, attempt: int) -> None:
        """Waits before the next attempt; raises ShuttingDown."""


Request = Callable[[Mapping[str, str]], "requests.Response"]
"""Asks the origin for the blob with these headers, redirects followed."""

Refuse = Callable[["requests.Response"], Exception]
"""What an answer of 400 and more means."""


class HttpSource:
    """A blob by HTTP. Where the origin redirects to a storage host, further ranges go there
    directly, until it refuses them: such addresses expire."""

    def __init__(self, http: Http, request: Request, refuse: Refuse) -> None:
        self._http = http
        self._request = request
        self._refuse = refuse
        self._elsewhere = ""
        self._lock = threading.Lock()

    def open(self, start: int, end: int) -> Body:
        """Raises what `refuse` makes of the origin's answer, Interrupted, ShuttingDown."""
        from runner.registry.http import is_passing

        headers = {"Accept-Encoding": "identity", "Range": f"bytes={start}-{end - 1}"}
        try:
            response = self._from_elsewhere(headers)
            if response is None:
                response = self._from_origin(headers)
        except RegistryError as error:
            if is_passing(error.__cause__):  # it was there a moment ago
                raise Interrupted(error) from error
            raise
        if response.status_code not in {_OK, _PARTIAL}:
            raise self._refuse(response)
        try:
            return _HttpBody(self._http, response, start)
        except RegistryError:
            response.close()
            raise

    def pause(self, attempt: int) -> None:
        self._http.pause(attempt)

    def _from_origin(self, headers: Mapping[str, str]) -> requests.Response:
        response = self._request(headers)
        moved = response.url or ""
        with self._lock:
            self._elsewhere = "" if self._http.is_own(moved) else moved
        return response

    def _from_elsewhere(self, headers: Mapping[str, str]) -> requests.Response | None:
        """None where the origin has to be asked, the first time and once an address expires."""
        with self._lock:
            url = self._elsewhere
        if not url:
            return None
        response = self._http.request("GET", url, headers=headers)
        if not 400 <= response.status_code < 500:  # noqa: PLR2004 - it refuses: expired, it may be
            return response
        response.close()
        with self._lock:
            if self._elsewhere == url:
                self._elsewhere = ""
        return None


class _HttpBody:
    def __init__(self, http: Http, response: requests.Response, asked: int) -> None:
        self._http = http
        self._response = response
        self._buffer = bytearray()
        self.whole = response.status_code == _OK
        self.start, self.total = _whole(response) if self.whole else _range(response, asked)

    def read(self, size: int) -> Content:
        """Into the same memory every time: fresh pages for every block cost a third of a pull."""
        from http.client import HTTPException

        from urllib3.exceptions import HTTPError

        from runner.registry.http import read_into

        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        view = memoryview(self._buffer)[:size]
        try:
            return view[: read_into(self._response, view)]
        except (HTTPError, HTTPException, OSError) as error:
            raise Interrupted(self._http.unreachable(error)) from error

    def interrupt(self) -> None:
        with suppress(OSError, ValueError, RuntimeError):  # it may have ended meanwhile
            self._response.raw.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._response.close()


def _whole(response: requests.Response) -> tuple[int, int | None]:
    """Raises RegistryError where something else than a blob comes."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise RegistryError(
            "a blob came in another encoding than was asked for",
            hint=_CHANGED,
        )
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise RegistryError(
            "a web page came instead of a blob",
            hint="a proxy or login page may stand between: check the name and your network",
        )
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _range(response: requests.Response, asked: int) -> tuple[int, int | None]:
    """Where a partial body begins, and the blob's size; raises RegistryError for another range."""
    match = _RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
    if not match or int(match[1]) != asked:
        raise RegistryError(
            "another range of a blob came than was asked for",
            hint=_CHANGED,
        )
    return asked, None if match[3] == "*" else int(match[3])


def read_range(source: HttpSource, end: int) -> bytes:
    """The first bytes, `end` of them or as many as there are. For small ranges: a connection
    that breaks is begun anew. Raises what the source raises."""
    for attempt in range(ATTEMPTS):
        try:
            return _read(source, end)
        except Interrupted as broken:
            if attempt == ATTEMPTS - 1:
                raise broken.reason from broken
            source.pause(attempt)
    raise AssertionError("the last attempt returns or raises")


def _read(source: HttpSource, end: int) -> bytes:
    if end == 0:
        return b""
    content = bytearray()
    with source.open(0, end) as body:
        while len(content) < end and (block := body.read(end - len(content))):
            content += block
    return bytes(content)
