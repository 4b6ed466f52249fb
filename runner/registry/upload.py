"""Uploads: how one file becomes a blob of a repository, from wherever an attempt has ended."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import BinaryIO
from urllib.parse import urlencode, urljoin, urlsplit

import requests

from runner.errors import CorruptTransfer, RegistryError, RegistryUnauthorized
from runner.registry.http import (
    MAX_ERROR_BODY,
    MAX_RETRY_AFTER,
    READ_TIMEOUT,
    RETRIED_STATUSES,
    is_passing,
    read_capped,
    retry_after,
)
from runner.registry.session import RegistrySession
from runner.registry.tokens import PUSH, Scope

CHUNK = 64 * 1024 * 1024
SMALLEST_CHUNK = 256 * 1024
BLOCK = 256 * 1024  # the socket's time limit holds for each: slow lines must manage one in time
MAX_STALLS = 3
COMMIT_WITHIN = 600.0  # seconds: some registries read a whole blob again before they answer
_CREATED, _ACCEPTED, _NO_CONTENT = 201, 202, 204
_BAD, _TOO_LARGE, _OTHER_RANGE = 400, 413, 416
_WANTS_CHUNKS = frozenset({404, 405, 411, _TOO_LARGE, 415, 501})
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")
_NO_UPLOADS = "check that it is a registry, and that it takes pushes"

Report = Callable[[int], None]
"""Told how many bytes of a blob have passed so far; fewer than before where some got lost."""


class Upload:
    """One blob on its way: in a single request, or in chunks where the registry asks for them
    and to take up an upload that broke off.

    Raises RegistryError, RegistryUnauthorized, CorruptTransfer where the file's bytes are not
    those of the digest, and ShuttingDown once the session is cancelled.
    """

    def __init__(
        self,
        session: RegistrySession,
        uploads_url: str,
        repository: str,
        digest: str,
        file: BinaryIO,
        size: int,
        report: Report,
    ) -> None:
        self._session = session
        self._registry = session.registry
        self._uploads_url = uploads_url
        self._repository = repository
        self._digest = digest
        self._file = file
        self._size = size
        self._report = report
        self._location = ""
        self._offset = 0
        self._chunk = 0  # 0: all in one request
        self._least = 0

    def mount(self, sources: Iterable[str]) -> bool:
        """Has the registry take the blob from another of its repositories, if it can: one that
        can't or may not opens an upload instead, which `send` then uses."""
        for source in sources:
            url = f"{self._uploads_url}?{urlencode({'mount': self._digest, 'from': source})}"
            scope = Scope(self._repository, PUSH, source)
            try:
                response = self._session.request("POST", url, scope=scope)
            except RegistryUnauthorized:
                continue
            with response:
                if response.status_code == _CREATED:
                    return True
                if response.status_code == _ACCEPTED:
                    self._begin(response)
        return False

    def send(self, is_there: Callable[[], bool]) -> None:
        """Sends what the registry does not have yet. Attempts that bring nothing new are given
        up after the third; `is_there` tells whether the blob has got there after all."""
        stalls = furthest = 0
        while True:
            try:
                if self._step():
                    return
            except _Interrupted as interruption:
                stalls = 0 if self._offset > furthest else stalls + 1
                furthest = max(furthest, self._offset)
                if stalls >= MAX_STALLS:
                    raise interruption.reason from interruption
                self._session.http.pause(stalls, interruption.delay)
                if self._location and not self._resumed() and is_there():
                    return

    def _step(self) -> bool:
        """One request; whether it was the last."""
        if not self._location:
            self._open()
            return False
        if self._chunk and self._offset < self._size:
            self._send_chunk()
            return False
        return self._finish()

    def _open(self) -> None:
        with self._request("POST", self._uploads_url) as response:
            self._session.raise_for(response, "asked for an upload", self._repository)
            if response.status_code != _ACCEPTED:
                raise RegistryError(
                    f"{self._registry} opened no upload for {self._repository}",
                    hint=_NO_UPLOADS,
                )
            self._begin(response)

    def _begin(self, response: requests.Response) -> None:
        self._offset = 0
        self._move(response)
        if not self._location:
            raise RegistryError(
                f"{self._registry} did not say where to upload to",
                hint=_NO_UPLOADS,
            )
        least = response.headers.get("OCI-Chunk-Min-Length", "")
        if least.isdecimal() and int(least):
            self._least = int(least)
            self._chunk = max(self._chunk or CHUNK, self._least)

    def _move(self, response: requests.Response) -> None:
        """Each answer may name another place to go on at."""
        location = response.headers.get("Location", "")
        if location:
            self._location = self._session.http.checked(urljoin(response.url, location))

    def _send_chunk(self) -> None:
        end = min(self._offset + self._chunk, self._size)
        headers = {"Content-Range": f"{self._offset}-{end - 1}"}
        part = self._part(self._offset, end)
        with self._request("PATCH", self._location, part, headers) as response:
            if response.status_code == _TOO_LARGE and self._shrink():
                return
            if response.status_code == _OTHER_RANGE:
                raise _Interrupted(self._refusal(response))
            self._check(response)
            self._move(response)
            self._offset = self._further(_offset_in(response, end), end)

    def _further(self, offset: int, end: int) -> int:
        """Where to go on after a chunk: past its begin, else it has to be placed anew."""
        if offset > end:
            raise RegistryError(
                f"{self._registry} says that it has {offset} bytes of {self._digest}, of which"
                f" it was sent {end}",
                hint="push it again",
            )
        if offset <= self._offset:
            raise _Interrupted(
                RegistryError(
                    f"{self._registry} keeps nothing of what it is sent for {self._digest}",
                    hint="tell whoever runs it: its disk may be full",
                )
            )
        return offset

    def _shrink(self) -> bool:
        """Takes smaller chunks where that is allowed."""
        smaller = self._chunk // 4
        if smaller < max(self._least, SMALLEST_CHUNK):
            return False
        self._chunk = smaller
        return True

    def _finish(self) -> bool:
        """Sends all or, in chunks, nothing more, and the digest; False to go on in chunks."""
        separator = "&" if urlsplit(self._location).query else "?"
        url = f"{self._location}{separator}{urlencode({'digest': self._digest})}"
        part = self._part(self._offset, self._size)
        with self._request("PUT", url, part, within=COMMIT_WITHIN) as response:
            if not self._chunk and response.status_code in _WANTS_CHUNKS:
                self._chunk, self._location = CHUNK, ""
                return False
            self._check(response)
            if response.status_code != _CREATED:
                raise RegistryError(
                    f"{self._registry} did not keep {self._digest}",
                    hint="push it again; if that does not help, its disk may be full",
                )
        return True

    def _resumed(self) -> bool:
        """Asks how far the registry has got; where it does not know, the upload begins anew.

        `0-0` stands for one byte and for none alike, so that it tells nothing.
        """
        with self._request("GET", self._location) as response:
            offset = _offset_in(response, 0)
            if response.status_code != _NO_CONTENT or not 0 < offset <= self._size:
                self._location, self._offset = "", 0
                return False
            self._move(response)
            self._offset = offset
            self._chunk = self._chunk or max(CHUNK, self._least)
        return True

    def _request(
        self,
        method: str,
        url: str,
        part: _Part | None = None,
        headers: Mapping[str, str] | None = None,
        within: float = READ_TIMEOUT,
    ) -> requests.Response:
        """Raises _Interrupted where a part did not get through, and may another time."""
        sent = dict(headers or {})
        if part:
            sent["Content-Type"] = "application/octet-stream"
            sent["Content-Length"] = str(len(part))  # of none too, else it would go in chunks
        scope = Scope(self._repository, PUSH)
        try:
            response = self._session.request(
                method, url, body=part, headers=sent, scope=scope, answer_within=within
            )
        except RegistryError as error:
            if part and is_passing(error.__cause__):
                raise _Interrupted(error) from error
            raise
        if part and response.status_code in RETRIED_STATUSES:
            delay = retry_after(response)
            reason = self._refusal(response)
            if delay is not None and delay > MAX_RETRY_AFTER:
                raise reason
            raise _Interrupted(reason, delay)
        return response

    def _check(self, response: requests.Response) -> None:
        if response.status_code >= _BAD:
            raise self._refusal(response)

    def _refusal(self, response: requests.Response) -> RegistryError:
        if response.status_code != _BAD:
            return self._session.refusal(response, f"given {self._digest}", self._repository)
        content = read_capped(response, MAX_ERROR_BODY)
        if b"DIGEST_INVALID" in content:
            return CorruptTransfer(
                f"{self._registry} got other bytes than {self._digest} announces",
                hint="the file may have changed: package or pull the model again",
            )
        return self._session.http.refused(response, content, f"given {self._digest}")

    def _part(self, start: int, end: int) -> _Part:
        return _Part(self._file, start, end, self._report, self._session.http.go_on)


class _Part:
    """A stretch of a file that tells how far it has been read."""

    def __init__(
        self,
        file: BinaryIO,
        start: int,
        end: int,
        report: Report,
        go_on: Callable[[], None],
    ) -> None:
        self._file = file
        self._start = start
        self._length = end - start
        self._position = 0
        self._report = report
        self._go_on = go_on
        self.seek(0)

    def __len__(self) -> int:
        return self._length

    def __bool__(self) -> bool:
        return True

    def seek(self, offset: int, /) -> int:
        self._position = offset
        return self._file.seek(self._start + offset) - self._start

    def read(self, size: int = -1, /) -> bytes:
        """Raises ShuttingDown once cancelled, CorruptTransfer where the file has shrunk."""
        self._go_on()
        left = self._length - self._position
        content = self._file.read(min(left, BLOCK if size < 0 else size, BLOCK))
        if left and not content:
            raise CorruptTransfer(
                "the file became shorter while it was sent",
                hint="`runner check` finds files that were changed",
            )
        self._position += len(content)
        self._report(self._start + self._position)
        return content


class _Interrupted(Exception):
    """A request that may get through another time, after `delay` seconds where that is known."""

    def __init__(self, reason: RegistryError, delay: float | None = None) -> None:
        super().__init__(reason.message)
        self.reason = reason
        self.delay = delay


def _offset_in(response: requests.Response, expected: int) -> int:
    """How many bytes the registry says it has: `expected` where it does not say. `0-0` is what
    registries write for one byte and for none."""
    match = _RANGE.fullmatch(response.headers.get("Range", "").strip())
    if not match or int(match[1]) + 1 == expected:
        return expected
    return int(match[1]) + 1 if int(match[1]) else 0
