"""What all connections of one gateway share: the instances, the pool, the limits, one clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from runner.gateway import heads, routes
from runner.gateway.guard import Guard
from runner.gateway.pool import Pool
from runner.gateway.render import Header
from runner.gateway.routes import Route

if TYPE_CHECKING:
    from runner.gateway.connection import ClientConnection
    from runner.scheduler.lease import Instances
    from runner.settings import Settings

TICK = 1.0
"""Seconds between two looks at the clock; one timer serves all connections."""

IDLE_UPSTREAM_TICKS = 30
CACHED_TARGETS = 512


class Gateway:
    """`drain` refuses new requests, `close` ends everything that is still open.

    `route_of` is the route of a request target, None where the path is not the data plane's; it
    raises EngineNotFound. Every request passes it: what came out is kept, engines stay the same.
    """

    def __init__(self, instances: Instances, settings: Settings) -> None:
        self.instances = instances
        self.max_body = settings.max_body
        self.guard = Guard.allowing(settings.allowed_origins)
        self.pool = Pool()
        self.draining = False
        self.route_of: Callable[[bytes], Route | None] = lru_cache(CACHED_TARGETS)(self._route_of)
        self._clients: set[ClientConnection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._defaults: Sequence[Header] = ()
        self._lines: dict[str, bytes] = {}

    def drain(self) -> None:
        """New requests get 503 ShuttingDown; requests that already came are answered."""
        self.draining = True

    def close(self) -> None:
        """Aborts the requests still in flight and closes the connections to engines."""
        self.draining = True
        for client in list(self._clients):
            client.transport.abort()
        self.pool.close()

    def joined(self, client: ClientConnection) -> None:
        self._clients.add(client)
        if self._timer is None:
            self._timer = client.loop.call_later(TICK, self._ring, client.loop)

    def left(self, client: ClientConnection) -> None:
        self._clients.discard(client)
        if self.draining and not self._clients:
            self.pool.close()

    def lines_of(self, engine: str, defaults: Sequence[Header]) -> bytes:
        """The header lines of our own in an engine's answer; `defaults` are uvicorn's."""
        if defaults is not self._defaults:
            self._defaults = defaults
            self._lines.clear()
        lines = self._lines.get(engine)
        if lines is None:
            own = (*defaults, (heads.ENGINE, engine.encode()))
            lines = self._lines[engine] = b"".join(b"%b: %b\r\n" % header for header in own)
        return lines

    def _route_of(self, target: bytes) -> Route | None:
        route = routes.find(target)
        if route is not None and route.engine is not None:
            self.instances.refuse_unknown(route.engine)
        return route

    def advance(self, ticks: int = 1) -> None:
        """Moves the clock on, and closes what has spent its time."""
        self.pool.tick += ticks
        self.pool.expire(IDLE_UPSTREAM_TICKS)
        for client in list(self._clients):
            client.tick()

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self.advance()
        if self._clients or not self.pool.empty:
            self._timer = loop.call_later(TICK, self._ring, loop)
        else:
            self._timer = None
