"""One inference request from its head to the end of its answer."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING

from runner.errors import EngineFailed, InternalError, RunnerError, ShuttingDown, Unavailable
from runner.gateway import heads, render
from runner.gateway.answer import Answer
from runner.gateway.bodies import model_of, too_large
from runner.gateway.heads import Framing, RequestHead
from runner.gateway.routes import Route
from runner.gateway.upstream import Upstream, Write

if TYPE_CHECKING:
    from runner.gateway.connection import ClientConnection
    from runner.scheduler.lease import Lease

log = logging.getLogger(__name__)

FAILURE_TIMEOUT = 10.0
"""Seconds to wait for the reason why an engine stopped answering."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Exchange:
    """Stands in uvicorn's queue as one of its request cycles does, hence `response_complete`
    and `keep_alive`. Answers in turn: `start` is called once all earlier ones are answered.
    """

    def __init__(
        self,
        client: ClientConnection,
        route: Route | None,
        head: RequestHead,
        *,
        has_body: bool,
        keep_alive: bool,
        legacy: bool,
        refusal: RunnerError | None,
        bodyless: bool,
    ) -> None:
        """`legacy`: the client speaks HTTP/1.0 and knows no chunks. `bodyless`: it asked with
        HEAD. Only a refusal needs no route.
        """
        self.client = client
        self.legacy = legacy
        self.keep_alive = keep_alive
        self.response_complete = False
        self._route = route
        self._head = head
        self._refusal = refusal
        self._bodyless = bodyless
        self._body: bytes | bytearray = b""
        self._body_complete = not has_body
        self._running = False
        self._lease: Lease | None = None
        self._answer: Answer | None = None
        self._task: asyncio.Task[None] | None = None

    # The client's side

    def start(self) -> None:
        """Its turn has come, with its body or before."""
        if self.response_complete:
            return
        self._running = True
        if self._body_complete:
            self._dispatch()
        elif self._refusal is not None:
            self._fail(self._refusal)
        elif self._head.expects_continue:
            self.client.transport.write(CONTINUE)

    def feed(self, piece: bytes) -> None:
        if self._refusal is not None:
            return
        if len(self._body) + len(piece) > self.client.gateway.max_body:
            self.refuse(too_large(self.client.gateway.max_body))
        elif not self._body:
            self._body = piece
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += piece

    def end(self) -> None:
        """The body is complete."""
        self._body_complete = True
        if self._running and not self.response_complete:
            self._dispatch()

    def refuse(self, error: RunnerError) -> None:
        """Answers with an error as soon as its turn comes, without waiting for the body."""
        self._refusal = error
        self._body = b""
        if self._running:
            self._fail(error)

    def abandon(self) -> None:
        """The client is gone: leaves the queue for a load, or stops the engine generating."""
        self.response_complete = True
        if self._task is not None:
            self._task.cancel()
        if self._answer is not None:
            self._answer.abandon()
            self._answer = None
        self.release()

    def pause(self) -> None:
        if self._answer is not None:
            self._answer.pause()

    def resume(self) -> None:
        if self._answer is not None:
            self._answer.resume()

    # To the engine

    def _dispatch(self) -> None:
        route = self._route
        if self._refusal is not None or route is None:
            assert self._refusal is not None
            self._fail(self._refusal)
            return
        gateway = self.client.gateway
        try:
            model = model_of(self._body)
            lease = gateway.instances.ready(route.engine, model, route.mode)
        except RunnerError as error:
            self._fail(error)
            return
        if lease is None:
            self.spawn(self._load(route, model))
            return
        self._lease = lease
        upstream = None if self.legacy else gateway.pool.take(lease.endpoint)
        if upstream is None:
            self.spawn(self._connect())
        else:
            self._send(upstream)

    async def _load(self, route: Route, model: str) -> None:
        instances = self.client.gateway.instances
        self._lease = await instances.acquire(route.engine, model, route.mode)
        await self._connect()

    async def _connect(self) -> None:
        assert self._lease is not None
        pool = self.client.gateway.pool
        try:
            upstream = await pool.connect(self._lease.endpoint, decoding=self.legacy)
        except OSError as error:
            if error.errno in {errno.EMFILE, errno.ENFILE}:
                raise Unavailable(
                    "too many open connections", hint="raise the limit of open files (ulimit -n)"
                ) from error
            raise await self.reason() from error
        self._send(upstream)

    def _send(self, upstream: Upstream) -> None:
        assert self._route is not None
        self._answer = answer = Answer(self, upstream)
        forwarded, length = self._head.forwarded, len(self._body)
        head = heads.request_to_engine(self._route.upstream, forwarded, length)
        upstream.send(answer, head, self._body)

    # From the engine

    def begin_answer(
        self, lines: bytes, framing: Framing, length: bytes | None, body: bytes
    ) -> Write:
        """Writes the head and the body's first bytes; returns what takes the rest."""
        assert self._lease is not None
        client, lease = self.client, self._lease
        self._body = b""
        if framing is Framing.CLOSE:
            self.keep_alive = False
        own = client.gateway.lines_of(lease.engine, client.default_headers)
        head = heads.response_to_client(
            lines,
            own + heads.fallback_line(lease.fallback),
            self._head.cors,
            length=length,
            chunked=framing is Framing.CHUNKED and not self.legacy,
            keep_alive=self.keep_alive,
        )
        client.transport.write(head + body)
        if client.flow.write_paused:
            self.pause()
        return client.transport.write

    def answered(self) -> None:
        self._complete(unread=False)

    def unanswered(self, *, stale: bool) -> None:
        """The connection ended before an answer; a stale one deserves a second try."""
        self._answer = None
        self.spawn(self._connect() if stale else self._report())

    async def _report(self) -> None:
        raise await self.reason()

    async def reason(self) -> RunnerError:
        """Why the engine stopped answering."""
        assert self._lease is not None
        try:
            async with asyncio.timeout(FAILURE_TIMEOUT):
                return await self._lease.failure()
        except TimeoutError:
            return EngineFailed("the engine stopped answering", hint="see `runner logs`")

    # The end

    def abort(self) -> None:
        """Ends so that the client sees an incomplete answer."""
        self.client.transport.abort()
        self.release()

    def release(self) -> None:
        if self._lease is not None:
            self._lease.release()

    def spawn(self, work: Coroutine[None, None, None]) -> None:
        """Runs what has to wait; ends with the exchange."""
        self._task = self.client.spawn(self._guarded(work))

    async def _guarded(self, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except RunnerError as error:
            self._give_up(error)
        except asyncio.CancelledError:
            if not self.response_complete:
                self._give_up(ShuttingDown("the runner is stopping", hint="ask again"))
            raise
        except Exception:
            log.exception("a request failed inside the gateway")
            self._give_up(InternalError())

    def _give_up(self, error: RunnerError) -> None:
        if self._answer is not None and self._answer.started:
            self.abort()
        else:
            self._fail(error)

    def _fail(self, error: RunnerError) -> None:
        """Answers with an error; only while nothing of an answer was sent."""
        unread = not self._body_complete
        self.keep_alive = self.keep_alive and not unread
        own = (*self.client.default_headers, *self._head.cors)
        self.client.transport.write(
            render.response(error, more=own, close=not self.keep_alive, bodyless=self._bodyless)
        )
        self._complete(unread=unread)

    def _complete(self, *, unread: bool) -> None:
        self.response_complete = True
        self._answer = None
        self.release()
        if unread:
            self.client.linger()
        elif not self.keep_alive:
            self.client.transport.close()
        self.client.on_response_complete()
