"""Who may speak to the runner: Host and Origin, against pages that rebind or forge.

`Guard` decides, purely; `GuardMiddleware` puts it in front of an ASGI application.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.errors import Forbidden
from runner.gateway import render
from runner.gateway.render import Header

if TYPE_CHECKING:
    from runner.settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOCAL_NAMES = rb"localhost|127\.0\.0\.1|\[::1\]"
DOCKER_NAMES = rb"host\.docker\.internal|model-runner\.docker\.internal"
HOST = re.compile(
    rb"(?:" + LOCAL_NAMES + rb"|" + DOCKER_NAMES + rb")(?::\d{1,5})?",
    re.IGNORECASE,
)
ORIGIN = re.compile(rb"https?://(?:" + LOCAL_NAMES + rb")(?::\d{1,5})?", re.IGNORECASE)

PREFLIGHT_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Guard:
    """`origins` are allowed beyond this machine's own pages, written as browsers send them."""

    origins: frozenset[bytes] = frozenset()

    @classmethod
    def allowing(cls, origins: Iterable[str]) -> Guard:
        return cls(frozenset(origin.rstrip("/").encode() for origin in origins))

    def check_host(self, host: bytes) -> None:
        """For requests over TCP; a request without Host comes from no browser and may pass.

        Raises Forbidden.
        """
        if HOST.fullmatch(host) is None:
            raise Forbidden(
                f"the host {_shown(host)} is not this machine",
                hint="use localhost, 127.0.0.1, [::1] or host.docker.internal",
            )

    def check_origin(self, origin: bytes) -> None:
        """Raises Forbidden."""
        if ORIGIN.fullmatch(origin) is None and origin not in self.origins:
            raise Forbidden(
                f"pages from {_shown(origin)} may not use the runner",
                hint=f"add {_shown(origin)} to allowed_origins in the settings",
            )


def cors(origin: bytes) -> list[Header]:
    """What lets a page of an allowed origin read the answer."""
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", b"x-runner-engine, x-runner-fallback"),
        (b"vary", b"origin"),
    ]


def preflight(origin: bytes, requested_headers: bytes, private_network: bool) -> list[Header]:
    """What a browser asks before it sends the request itself."""
    headers = [
        *cors(origin),
        (b"access-control-allow-methods", b"GET, POST, DELETE, OPTIONS"),
        (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS),
    ]
    if requested_headers:
        headers.append((b"access-control-allow-headers", requested_headers))
    if private_network:
        headers.append((b"access-control-allow-private-network", b"true"))
    return headers


def _shown(value: bytes) -> str:
    return repr(value[:200].decode("latin-1"))


class GuardMiddleware:
    """403 for a foreign Host or Origin, CORS for allowed ones, an answer to each preflight."""

    def __init__(self, app: App, settings: Settings) -> None:
        self._app = app
        self._guard = Guard.allowing(settings.allowed_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            origin = self._admit(scope)
        except Forbidden as error:
            await _refuse(error, send)
            return
        if origin is None:
            await self._app(scope, receive, send)
        elif _is_preflight(scope):
            await _answer_preflight(scope, origin, send)
        else:
            await self._app(scope, receive, _with_headers(send, cors(origin)))

    def _admit(self, scope: Scope) -> bytes | None:
        """The origin of a page that asks, None for any other client; raises Forbidden."""
        origin = None
        unix = _came_over_unix(scope)
        for name, value in scope["headers"]:
            if name == b"host" and not unix:
                self._guard.check_host(value)
            elif name == b"origin":
                self._guard.check_origin(value)
                origin = value
        return origin


def _came_over_unix(scope: Scope) -> bool:
    server = scope.get("server")
    return server is not None and server[1] is None


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")


def _is_preflight(scope: Scope) -> bool:
    return scope["method"] == "OPTIONS" and bool(_header(scope, b"access-control-request-method"))


async def _answer_preflight(scope: Scope, origin: bytes, send: Send) -> None:
    headers = preflight(
        origin,
        _header(scope, b"access-control-request-headers"),
        _header(scope, b"access-control-request-private-network") == b"true",
    )
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def _refuse(error: Forbidden, send: Send) -> None:
    content = render.error_body(error)
    headers = [*render.headers(error), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def _with_headers(send: Send, more: Iterable[Header]) -> Send:
    async def send_more(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *more]
        await send(message)

    return send_more
