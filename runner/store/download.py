"""One blob on its way: its parts, and how a worker brings one in."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from runner.errors import CorruptTransfer, RunnerError, ShuttingDown
from runner.registry.source import Body, ByteSource, Content, Interrupted
from runner.store.partial import Partial
from runner.store.ranges import parts

PART_SIZE = 64 * 1024 * 1024
BLOCK = 1024 * 1024
SMALLEST_BLOCK = 4 * 1024
QUICK, SLOW = 0.05, 1.0
NOTED_EVERY = 8 * BLOCK
READ_BACK = 64 * BLOCK
MAX_STALLS = 6
LEAVER_POLL = 0.02
_NEVER = threading.Event()


@dataclass(eq=False, slots=True)
class Ticket:
    """Somebody's wish for a blob, and whom they have to ask for it."""

    source: ByteSource
    error: RunnerError | None = None


NextTicket = Callable[[], Ticket]
"""Whom to ask now; raises Abandoned once nobody wants the blob any more."""


class Abandoned(Exception):
    """Nobody waits for this blob any more, or another worker brings it whole."""


@dataclass(slots=True)
class Cursor:
    """How far a worker is within its part: written to `position`, journalled to `noted`."""

    position: int
    end: int
    noted: int


@dataclass
class Download:
    """One blob's state, guarded by the pool's lock.

    `partial` is None while another process has it open; `elsewhere` then says how many bytes that
    one had, and since when. `whole_by` is the worker that reads it
    alone, from the beginning, because its host turned out to know no ranges.
    """

    digest: str
    size: int
    partial: Partial | None = None
    tickets: list[Ticket] = field(default_factory=list)
    queue: deque[tuple[int, int]] = field(default_factory=deque)
    running: int = 0
    resumed: bool = False
    whole_by: object | None = None
    finished: bool = False
    error: RunnerError | None = None
    elsewhere: tuple[int, float] | None = None

    @property
    def over(self) -> bool:
        """Whether its workers have nothing more to do."""
        return self.finished or self.error is not None or not self.tickets

    def plan(self) -> None:
        """Queues what is missing."""
        if self.partial:
            ranges = self.partial.ranges
            self.resumed = ranges.total > 0
            self.queue = deque(parts(ranges.gaps(self.size), PART_SIZE))

    def is_complete(self) -> bool:
        return bool(self.partial and self.partial.ranges.total == self.size)


class Worker:
    """Brings in one part of a blob. `heard` is when something came last, on the monotonic clock."""

    def __init__(
        self,
        download: Download,
        partial: Partial,
        next_ticket: NextTicket,
        take_whole: Callable[[], None],
    ) -> None:
        self.download = download
        self.ticket: Ticket | None = None
        self.cursor = Cursor(0, 0, 0)
        self.heard = time.monotonic()
        self._body: Body | None = None
        self._partial = partial
        self._next_ticket = next_ticket
        self._take_whole = take_whole

    def fetch(self, start: int, end: int) -> None:
        """A broken connection is taken up where it broke, and given up after six attempts that
        brought nothing new. Raises RunnerErrors, Abandoned, OSError."""
        self.cursor = cursor = Cursor(start, end, start)
        stalls = 0
        while cursor.position < cursor.end:
            self.ticket, before = self._next_ticket(), cursor.position
            source = self.ticket.source
            try:
                self._read(source)
            except Interrupted as interruption:
                stalls = 0 if cursor.position > before else stalls + 1
                if stalls >= MAX_STALLS:
                    raise interruption.reason from interruption
                self._pause(source, stalls)
            except ShuttingDown:
                self._pause_for_leaver(source)
            finally:
                self._body = None
                self._note()

    def interrupt(self) -> None:
        """Wakes it from waiting for bytes; for other threads."""
        body = self._body
        if body:
            body.interrupt()

    def _read(self, source: ByteSource) -> None:
        cursor, block = self.cursor, SMALLEST_BLOCK
        with source.open(cursor.position, cursor.end) as body:
            self._body = body
            self._check(body)
            skip = self._skip(body)
            while cursor.position < cursor.end:
                self._next_ticket()  # raises Abandoned
                began = self.heard = time.monotonic()
                content = body.read(min(block, cursor.end - cursor.position + skip))
                block = _fitting(block, time.monotonic() - began)
                if not content:
                    raise Interrupted(self._cut_short())
                fresh, skip = content[skip:], max(0, skip - len(content))
                self._keep(fresh)

    def _keep(self, content: Content) -> None:
        cursor = self.cursor
        self._partial.write(cursor.position, content)
        self._partial.hash.offer(cursor.position, content)
        cursor.position += len(content)
        if cursor.position - cursor.noted >= NOTED_EVERY:
            self._note()

    def _note(self) -> None:
        cursor = self.cursor
        self._partial.wrote(cursor.noted, cursor.position)
        cursor.noted = cursor.position
        self._partial.hash.catch_up(self._partial.ranges.prefix, most=READ_BACK)

    def _skip(self, body: Body) -> int:
        """How many bytes to pass over in a body that begins earlier than was asked for."""
        cursor = self.cursor
        if body.whole and (cursor.position, cursor.end) != (0, self.download.size):
            self._take_whole()
            cursor.position = cursor.noted = self._partial.ranges.prefix
            cursor.end = self.download.size
        return cursor.position - body.start

    def _check(self, body: Body) -> None:
        wanted = self.download
        if body.total is not None and body.total != wanted.size:
            raise CorruptTransfer(
                f"{wanted.digest} has {body.total} bytes where it is kept, but the manifest says"
                f" {wanted.size}",
                hint="the model was pushed wrongly, or something between changes what it sends",
            )

    def _cut_short(self) -> CorruptTransfer:
        return CorruptTransfer(
            f"{self.download.digest} ended after {self.cursor.position} of {self.download.size}"
            " bytes",
            hint="try again",
        )

    def _pause(self, source: ByteSource, attempt: int) -> None:
        try:
            source.pause(attempt)
        except ShuttingDown:
            self._pause_for_leaver(source)

    def _pause_for_leaver(self, source: ByteSource) -> None:
        """Whoever lent us this source gives up: it is taken back soon, and others may remain."""
        while self._next_ticket().source is source:
            _NEVER.wait(LEAVER_POLL)


def _fitting(block: int, taken: float) -> int:
    """How much to ask for next, so that a read takes neither long nor no time at all."""
    if taken < QUICK:
        return min(BLOCK, block * 2)
    return max(SMALLEST_BLOCK, block // 2) if taken > SLOW else block
