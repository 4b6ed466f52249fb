"""An engine's answer on its way to the client, to its end or to its engine's death."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runner.gateway import endings
from runner.gateway.heads import Framing, ResponseHead
from runner.gateway.upstream import Upstream, Write

if TYPE_CHECKING:
    from runner.gateway.exchange import Exchange


class Answer:
    """Receives what an upstream sends in answer to an exchange's request."""

    def __init__(self, exchange: Exchange, upstream: Upstream) -> None:
        self._exchange = exchange
        self._upstream = upstream
        self.started = False
        self._framing = Framing.LENGTH
        self._event_stream = False
        self._tail = b""

    def pause(self) -> None:
        self._upstream.pause()

    def resume(self) -> None:
        self._upstream.resume()

    def abandon(self) -> None:
        self._upstream.abandon()

    # upstream.Receiver

    def begin(self, head: ResponseHead, length: bytes | None, body: bytes) -> Write:
        self._framing = head.framing if length is None else Framing.LENGTH
        self._event_stream = head.event_stream
        self.started = True
        if head.holds_a_thread:
            self._upstream.retire()
        write = self._exchange.begin_answer(head.lines, self._framing, length, body)
        if self._framing is not Framing.CLOSE:
            return write
        self._tail = body[-endings.TAIL :]
        return self._remembering(write)

    def finished(self) -> None:
        self._exchange.answered()

    def lost(self, upstream: Upstream, clean: bool) -> None:
        if not self.started:
            self._exchange.unanswered(stale=upstream.reused and not upstream.responded)
        elif clean and self._framing is Framing.CLOSE and self._may_end_here():
            self._exchange.answered()
        elif self._event_stream and self._takes_another_event():
            self._exchange.spawn(self._end_with_event())
        else:
            self._exchange.abort()

    def _remembering(self, write: Write) -> Write:
        def remember_and_write(data: bytes) -> None:
            self._tail = (self._tail + data)[-endings.TAIL :]
            write(data)

        return remember_and_write

    def _may_end_here(self) -> bool:
        """Whether a body without a stated length is whole; event streams say so themselves."""
        return not self._event_stream or endings.DONE in self._tail

    def _takes_another_event(self) -> bool:
        if self._framing is Framing.CHUNKED:
            return self._upstream.between_chunks()
        return self._framing is Framing.CLOSE

    async def _end_with_event(self) -> None:
        """One error event, then an end that no client can take for a complete stream."""
        error = await self._exchange.reason()
        transport = self._exchange.client.transport
        as_chunk = self._framing is Framing.CHUNKED and not self._exchange.legacy
        transport.write(endings.error_event(error, self._upstream.last, as_chunk=as_chunk))
        if not as_chunk:
            endings.reset_on_close(transport)
        transport.close()
        self._exchange.release()
