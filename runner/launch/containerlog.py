"""A container's log lines: the last ones, and new ones as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPException
from typing import TYPE_CHECKING

from runner.dockerhost import DockerHost
from runner.launch.lines import LineSplitter

if TYPE_CHECKING:
    from docker.models.containers import Container
    from requests import Response


def last_lines(host: DockerHost, container: Container, count: int) -> tuple[str, ...]:
    """Raises NotFound where the container is gone."""
    splitter = LineSplitter()
    with host.translated():
        text = container.logs(tail=count)
    return (*splitter.feed(text), *splitter.flush())


class ContainerLog:
    """Lines until the container ends; `close` ends them from any thread."""

    def __init__(self, host: DockerHost, container: Container, tail: int) -> None:
        with host.translated():
            self._stream = container.logs(stream=True, follow=True, tail=tail)
        # The SDK ends its stream but never closes the answer that it reads from.
        self._answer: Response = self._stream._response  # type: ignore[attr-defined]
        self._splitter = LineSplitter()
        self._lines: deque[str] = deque()
        self._ended = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while not self._lines:
            if self._ended:
                raise StopIteration
            self._read()
        return self._lines.popleft()

    def close(self) -> None:
        self._ended = True
        # Shutting the connection down wakes a reader; there is none any more at the log's end.
        with suppress(OSError, AttributeError):
            self._stream.close()
        self._answer.close()

    def _read(self) -> None:
        try:
            self._lines.extend(self._splitter.feed(next(self._stream)))
        except (StopIteration, HTTPException, OSError, ValueError, AttributeError):
            # The log's end, or what a connection raises that is closed under its reader.
            self._ended = True
            self._lines.extend(self._splitter.flush())
            self._answer.close()
