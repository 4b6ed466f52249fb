"""Idle connections to engines, ready for the next request."""

from __future__ import annotations

import asyncio

from runner.engines.base import Endpoint, UnixEndpoint
from runner.gateway.upstream import DecodingUpstream, Upstream
from runner.launch.sockets import socket_itself

CONNECT_TIMEOUT = 10.0
"""Seconds; engines listen on this machine, so only a full accept queue takes time."""

MAX_IDLE = 128
"""Idle connections kept for each endpoint."""


class Pool:
    """The most recently used connection goes out first, so that surplus ones age and close."""

    def __init__(self) -> None:
        self.tick = 0
        self._idle: dict[Endpoint, list[Upstream]] = {}

    def take(self, endpoint: Endpoint) -> Upstream | None:
        stack = self._idle.get(endpoint)
        while stack:
            upstream = stack.pop()
            if not upstream.transport.is_closing():
                upstream.reused = True
                return upstream
        return None

    async def connect(self, endpoint: Endpoint, *, decoding: bool = False) -> Upstream:
        """A fresh connection, not yet in the pool; raises OSError or TimeoutError."""
        loop = asyncio.get_running_loop()
        upstream = (DecodingUpstream if decoding else Upstream)(self, endpoint)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                if isinstance(endpoint, UnixEndpoint):
                    path = socket_itself(endpoint.path)
                    await loop.create_unix_connection(lambda: upstream, path)
                else:
                    await loop.create_connection(lambda: upstream, endpoint.host, endpoint.port)
        except asyncio.CancelledError:
            upstream.abandon()
            raise
        return upstream

    def give(self, upstream: Upstream) -> None:
        stack = self._idle.setdefault(upstream.endpoint, [])
        if len(stack) < MAX_IDLE:
            upstream.idle_since = self.tick
            stack.append(upstream)
        else:
            upstream.transport.close()

    def forget(self, upstream: Upstream) -> None:
        stack = self._idle.get(upstream.endpoint)
        if stack is not None and upstream in stack:
            stack.remove(upstream)

    def expire(self, age: int) -> None:
        """Closes what has been idle for more than so many ticks."""
        for endpoint, stack in list(self._idle.items()):
            for upstream in stack:
                if self.tick - upstream.idle_since > age:
                    upstream.transport.close()
            stack[:] = [upstream for upstream in stack if not upstream.transport.is_closing()]
            if not stack:
                del self._idle[endpoint]

    def close(self) -> None:
        for stack in self._idle.values():
            for upstream in stack:
                upstream.transport.close()
        self._idle.clear()

    @property
    def empty(self) -> bool:
        return not self._idle
