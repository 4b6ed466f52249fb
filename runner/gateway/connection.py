"""A client's connection beneath the requests: its time limits, its tasks, its refusals."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runner.gateway.patience import STALL_LIMIT, Phase, overdue
from runner.gateway.render import Header

if TYPE_CHECKING:
    from runner.gateway.gateway import Gateway


class ClientConnection(HttpToolsProtocol):
    """uvicorn's connection, watched by its gateway's clock from the first byte on."""

    gateway: ClassVar[Gateway]

    def __init__(self, *args: Any, **keywords: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **keywords)
        self.phase = Phase.HEAD
        self.unix = False
        self._since = 0
        self._stalled = 0

    @property
    def default_headers(self) -> list[Header]:
        return self.server_state.default_headers

    @property
    def must_wait(self) -> bool:
        """Whether an earlier request is still being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        self.unix = peer is not None and peer.family == socket.AF_UNIX
        self.touch()
        self.gateway.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gateway.left(self)
        super().connection_lost(exc)

    def spawn(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """A task that uvicorn's shutdown waits for."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def touch(self) -> None:
        """The time that a phase may take counts from here."""
        self._since = self.gateway.pool.tick

    def tick(self) -> None:
        """Ends a connection that has spent its time."""
        self._stalled = self._stalled + 1 if self.flow.write_paused else 0
        if self._stalled > STALL_LIMIT or overdue(
            self.phase,
            self.gateway.pool.tick - self._since,
            keep_alive=self.timeout_keep_alive,
            answering=self.must_wait,
            paused=self.flow.read_paused,
        ):
            self.transport.abort()

    def linger(self) -> None:
        """Closes once the client has had the chance to read its refusal: closing with bytes
        unread resets the connection, and takes what was written along.
        """
        self.phase = Phase.REFUSED
        self.touch()
        if not self.transport.is_closing():
            self.transport.write_eof()

    def shutdown(self) -> None:
        self.gateway.drain()
        super().shutdown()
