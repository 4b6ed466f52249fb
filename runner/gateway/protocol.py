"""The server's side of a connection: inference requests are taken before ASGI sees them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, cast

from httptools import HttpParserCallbackError, HttpParserError, HttpParserUpgrade
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from runner.errors import (
    BadInput,
    EngineNotFound,
    InternalError,
    MethodNotAllowed,
    RunnerError,
    ShuttingDown,
)
from runner.gateway import heads, render
from runner.gateway.bodies import too_large
from runner.gateway.connection import ClientConnection
from runner.gateway.exchange import Exchange
from runner.gateway.gateway import Gateway
from runner.gateway.heads import RequestHead
from runner.gateway.patience import Phase
from runner.gateway.render import Header
from runner.gateway.routes import Route

if TYPE_CHECKING:
    from runner.scheduler.lease import Instances
    from runner.settings import Settings

log = logging.getLogger(__name__)

MAX_HEAD = 64 * 1024
"""Bytes of a request's head."""


_IDLE, _HEAD, _BODY, _ANSWERING, _REFUSED = Phase


def protocol_class(instances: Instances, settings: Settings) -> type[GatewayProtocol]:
    """What `uvicorn.Config(http=…)` takes; its `gateway` drains and closes."""

    class BoundProtocol(GatewayProtocol):
        gateway = Gateway(instances, settings)

    return BoundProtocol


class GatewayProtocol(ClientConnection):
    """Every path that is not an inference path goes on to the ASGI application."""

    def __init__(self, *args: Any, **keywords: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **keywords)
        self._answering: Exchange | None = None
        self._receiving: Exchange | None = None
        self._head_bytes = 0
        self._length: bytes | None = None
        self._known_headers: list[Header] | None = None
        self._known_head: RequestHead | None = None

    # asyncio's side

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answering is not None:
            self._answering.abandon()
        if isinstance(cast(object, self.cycle), Exchange):
            self.cycle = None  # type: ignore[assignment]  # as uvicorn starts out
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.phase is _REFUSED:
            return
        # A head's first segment is free: it may hold other requests before it.
        self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except HttpParserCallbackError as error:
            log.exception("a request failed inside the gateway", exc_info=error)
            self._reject(InternalError())
        except HttpParserError as error:
            self._reject(BadInput(f"not an HTTP request: {error}"))
        if self.phase is _HEAD and self._head_bytes > MAX_HEAD:
            self._reject(BadInput(f"the request's head is longer than {MAX_HEAD} bytes"))

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._answering is not None:
            self._answering.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answering is not None:
            self._answering.resume()

    # The parser's side

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self._length = None
        self._receiving = None
        self._head_bytes = 0
        if self.phase is not _REFUSED:
            self.phase = _HEAD
            self.touch()

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-length":
            self._length = value
        else:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.phase is _REFUSED or self.transport.is_closing() or self.parser.should_upgrade():
            return
        method = self.parser.get_method()
        try:
            route = self.gateway.route_of(self.url)
        except EngineNotFound as error:
            self._take(None, error, bodyless=method == b"HEAD")
            return
        if route is None or method == b"OPTIONS":
            self._hand_to_asgi()
        elif method == b"POST":
            self._take(route, None)
        else:
            self._take(None, _method_not_allowed(method), bodyless=method == b"HEAD")

    def on_body(self, body: bytes) -> None:
        if self._receiving is not None:
            self.touch()
            self._receiving.feed(body)
        elif self.phase is _ANSWERING:
            super().on_body(body)

    def on_message_complete(self) -> None:
        receiving = self._receiving
        if receiving is not None:
            if self.phase is _BODY:
                self.phase = _IDLE if receiving.response_complete else _ANSWERING
            receiving.end()
        elif self.phase is _ANSWERING:
            super().on_message_complete()

    # One request after the other

    def _take(
        self, route: Route | None, refusal: RunnerError | None, *, bodyless: bool = False
    ) -> None:
        head = self._request_head()
        length = int(self._length or 0)
        if self.gateway.draining:
            refusal = ShuttingDown("the runner is stopping", hint="ask again once it is back")
        elif refusal is None:
            refusal = head.refusal
        if refusal is None and length > self.gateway.max_body:
            refusal = too_large(self.gateway.max_body)
        legacy = self.parser.get_http_version() == "1.0"
        exchange = Exchange(
            self,
            route,
            head,
            has_body=length > 0 or head.chunked,
            keep_alive=self.parser.should_keep_alive() and not legacy,
            legacy=legacy,
            refusal=refusal,
            bodyless=bodyless,
        )
        self._enqueue(exchange)

    def _enqueue(self, exchange: Exchange) -> None:
        must_wait = self.must_wait
        self._receiving = exchange
        self.phase = _BODY
        self.cycle = cast(RequestResponseCycle, exchange)
        if must_wait:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        else:
            self._answering = exchange
            exchange.start()

    def _request_head(self) -> RequestHead:
        """Read anew only where it differs from the connection's last one."""
        if self._known_head is None or self._known_headers != self.headers:
            self._known_headers = self.headers
            self._known_head = heads.read_request(self.headers, self.gateway.guard, self.unix)
        return self._known_head

    def _hand_to_asgi(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        if self._length is not None:
            self.headers.append((b"content-length", self._length))
        self.expect_100_continue = any(name == b"expect" for name, _ in headers)
        self.phase = _ANSWERING
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        self._answering = None
        self.touch()
        if self.phase is _ANSWERING:
            self.phase = _IDLE
        next_up = self.pipeline[-1][0] if self.pipeline else None
        if next_up is not None and not isinstance(cast(object, next_up), Exchange):
            super().on_response_complete()
            return
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            exchange = cast(Exchange, self.pipeline.pop()[0])
            self._answering = exchange
            # Not at once: a row of refused requests would otherwise nest as deep as it is long.
            self.loop.call_soon(exchange.start)

    # What is no request

    def send_400_response(self, msg: str) -> None:
        self._reject(BadInput(msg))

    def _reject(self, error: RunnerError) -> None:
        """Answers what is no request, after the answers that are still due."""
        receiving, due = self._receiving, self.cycle
        if self.phase is _BODY and receiving is not None and not receiving.response_complete:
            receiving.refuse(error)
        elif not self.must_wait:
            headers = self.default_headers
            self.transport.write(render.response(error, more=headers, close=True))
            self.linger()
        elif isinstance(cast(object, due), Exchange):
            due.keep_alive = False
            self.phase = _REFUSED
        else:
            self.transport.abort()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Answers in HTTP/1.1, as RFC 9110 (7.8) allows: some clients offer h2c with each POST,
        and the parser has stopped behind the head.
        """
        if self.parser.get_method() == b"CONNECT":
            self._reject(_method_not_allowed(b"CONNECT"))
            return
        headers = self.headers
        if self._length is not None:
            headers = [*headers, (b"content-length", self._length)]
        self.data_received(
            heads.without_upgrade(self.parser.get_method(), self.url, headers) + rest
        )


def _method_not_allowed(method: bytes) -> MethodNotAllowed:
    return MethodNotAllowed(f"{method.decode()} is not possible here", hint="use POST")
