"""huggingface_hub's HTTP, led through our own.

Left to itself it has no time limits on listings, waits as long as a server asks it to, cannot be
cancelled, and knows neither our proxy nor our certificate authority. Its client is one for the
whole process, so each request finds the session it belongs to by the context it is made in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING

import httpx2
from huggingface_hub import constants, set_client_factory

from runner.errors import RegistryError, Unavailable

if TYPE_CHECKING:
    from runner.hubs.session import HubSession

MAX_PAGES = 1000
_TELLTALE = frozenset({"/api/agent-harnesses", "/api/telemetry"})
"""What the library asks in order to tell the Hub more of us than the question itself does."""
_OF_THE_BODY = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class _Guest:
    """The requests of one task: whose session they use, and how many more there may be."""

    def __init__(self, session: HubSession, repository: str) -> None:
        self.session = session
        self.repository = repository
        self._left = MAX_PAGES

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.path in _TELLTALE:
            return httpx2.Response(404, request=request)
        if self._left == 0:
            raise RegistryError(f"{self.session.name} has no end of pages", hint="try again later")
        self._left -= 1
        response, content = self.session.document(str(request.url), self.repository)
        headers = [(k, v) for k, v in response.headers.items() if k.lower() not in _OF_THE_BODY]
        return httpx2.Response(
            response.status_code, headers=headers, content=content, request=request
        )


_GUEST: ContextVar[_Guest] = ContextVar("_GUEST")


class _Door(httpx2.BaseTransport):
    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return _GUEST.get().answer(request)


@contextmanager
def opened(session: HubSession, repository: str = "") -> Iterator[None]:
    """Within it, this thread's calls of huggingface_hub go through a session of ours, and end
    in our errors. Raises Unavailable where the person has taken the Hub off line."""
    if constants.is_offline_mode():
        raise Unavailable("HF_HUB_OFFLINE is set, so the Hub is not asked", hint="unset it")
    _lead_through()
    token = _GUEST.set(_Guest(session, repository))
    try:
        yield
    finally:
        _GUEST.reset(token)


@cache
def _lead_through() -> None:
    set_client_factory(lambda: httpx2.Client(transport=_Door(), follow_redirects=False))
