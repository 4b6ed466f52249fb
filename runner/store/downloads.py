"""Downloads: blobs fetched in parts by one pool of workers, shared by all who want them.

Every blob that is wanted is in the pool once, however many pulls wait for it. Workers spread over
the blobs first and help with each other's later, so that most bytes arrive in order and are hashed
as they pass; the few that do not are read back from the page cache. What is begun is brought to
its end before more is begun: the disk then takes one blob while the next is on its way. What is in
when a download ends early stays for the next one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.errors import (
    CorruptTransfer,
    InternalError,
    InUse,
    RunnerError,
    ShuttingDown,
    Unavailable,
)
from runner.registry.source import ByteSource
from runner.store.blobs import Blobs
from runner.store.download import Abandoned, Download, Ticket, Worker
from runner.store.files import explain
from runner.store.partial import Partials

log = logging.getLogger(__name__)

WORKERS = 4
MOST_THREADS = 32
MOST_OPEN = 16
PARKED_AFTER = 2.0
SILENCE = 30.0
ELSEWHERE_PATIENCE = 120.0
TICK = 0.1

Told = Callable[[str, int], None]
"""Hears a blob's digest and how many of its bytes are in."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob to fetch: `size` bytes that hash to `digest`."""

    digest: str
    size: int
    source: ByteSource


class Downloads:
    """The pool. One per store and process; idle it holds no thread and no file."""

    def __init__(self, root: Path, blobs: Blobs) -> None:
        self._root = root
        self._blobs = blobs
        self._partials = Partials(root)
        self._changed = threading.Condition()
        self._active: dict[tuple[str, int], Download] = {}
        self._threads = 0
        self._working: set[Worker] = set()

    def fetch(self, wanted: Sequence[Wanted], told: Told, cancelled: threading.Event) -> None:
        """Brings blobs into the store; those that others are fetching are waited for.

        When it returns they are in, checked. Fails as a whole with the first blob that fails:
        RegistryError and its kind, CorruptTransfer, DiskFull, InUse where another process has a
        blob open and does not get on, ShuttingDown once `cancelled`. Whatever came stays, and the
        next attempt goes on from there.
        """
        missing = self._missing(wanted)
        self._require_space_for(missing)
        joined: list[tuple[Download, Ticket]] = []
        try:
            for blob in missing:
                joined.append(self._join(blob))
            while waiting := [pair for pair in joined if not pair[0].finished]:
                self._start([download for download, _ in waiting])
                for download, _ in joined:
                    told(download.digest, self._done(download))
                self._wait(waiting, cancelled)
        finally:
            for download, ticket in joined:
                self._leave(download, ticket)
        for blob in wanted:
            told(blob.digest, blob.size)

    def _is_in(self, digest: str, size: int) -> bool:
        return self._blobs.size(digest) == size

    def require_space(self, wanted: Iterable[Wanted]) -> None:
        """Raises DiskFull where what is missing would not fit."""
        self._require_space_for(self._missing(wanted))

    def has_begun(self, digest: str) -> bool:
        """Whether there is something of a blob to go on from."""
        return self._partials.done(digest) > 0

    def _missing(self, wanted: Iterable[Wanted]) -> tuple[Wanted, ...]:
        """What is not in, each digest once."""
        missing = {b.digest: b for b in wanted if not self._is_in(b.digest, b.size)}
        return tuple(missing.values())

    def _require_space_for(self, missing: Iterable[Wanted]) -> None:
        needed = sum(max(0, b.size - self._partials.on_disk(b.digest)) for b in missing)
        if needed:
            self._blobs.require_space(needed)

    def _join(self, blob: Wanted) -> tuple[Download, Ticket]:
        """Manifests that disagree about a blob's size get a download each, one after the other."""
        ticket, key = Ticket(blob.source), (blob.digest, blob.size)
        with self._changed:
            download = self._active.get(key)
            if download is None or download.over:
                download = self._active[key] = Download(blob.digest, blob.size)
            download.tickets.append(ticket)
            return download, ticket

    def _leave(self, download: Download, ticket: Ticket) -> None:
        with self._changed:
            if ticket in download.tickets:
                download.tickets.remove(ticket)
            self._release(download)
            self._changed.notify_all()
            idle = [w for w in self._working if w.download is download and download.over]
        for worker in idle:
            worker.interrupt()

    def _wait(self, waiting: Sequence[tuple[Download, Ticket]], cancelled: threading.Event) -> None:
        with self._changed:
            for download, ticket in waiting:
                error = ticket.error or download.error
                if error:
                    raise error
            if cancelled.is_set():
                raise ShuttingDown("the transfer was cancelled")
            if not any(download.finished for download, _ in waiting):
                self._changed.wait(TICK)
            silent = time.monotonic() - SILENCE
            stalled = [worker for worker in self._working if worker.heard < silent]
        for worker in stalled:
            worker.interrupt()

    def _start(self, waiting: Sequence[Download]) -> None:
        """Opens as many as keep the workers busy, and sees that there are workers."""
        with self._changed:
            opened = sum(1 for d in self._active.values() if d.partial)
            for download in waiting:
                if opened >= MOST_OPEN:
                    break
                if download.partial is None and not download.over:
                    opened += self._open(download)
            self._add_workers()

    def _add_workers(self) -> None:
        """Those that have heard nothing for a while do not count: they may sit at a slow host."""
        queued = sum(len(d.queue) for d in self._active.values())
        parked = time.monotonic() - PARKED_AFTER
        busy = self._threads - sum(1 for worker in self._working if worker.heard < parked)
        for _ in range(min(queued, WORKERS - busy, MOST_THREADS - self._threads)):
            try:
                threading.Thread(target=self._work, name="download", daemon=True).start()
            except RuntimeError as error:
                if self._threads:
                    return
                raise Unavailable("the system gives no more threads", hint="try again") from error
            self._threads += 1

    def _open(self, download: Download) -> bool:
        """False where another process has it open, or has finished it meanwhile."""
        try:
            partial = self._partials.open(download.digest, download.size)
            if self._is_in(download.digest, download.size):
                download.finished = True
                if partial:
                    partial.remove()
                return False
        except OSError as error:
            download.error = explain(error, self._root)
            return False
        download.partial = partial
        if partial is None:
            self._await_elsewhere(download)
            return False
        download.plan()
        if download.is_complete():  # killed between its last byte and its check
            download.running += 1
            self._spawn(self._close, download)
        return True

    def _spawn(self, work: Callable[[Download], None], download: Download) -> None:
        """Where the system gives no more threads, this one does it."""
        thread = threading.Thread(target=work, args=(download,), name="download", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            work(download)

    def _await_elsewhere(self, download: Download) -> None:
        """Whoever has it open gets on, or we say that it does not."""
        done, now = self._partials.done(download.digest), time.monotonic()
        if download.elsewhere is None or download.elsewhere[0] != done:
            download.elsewhere = (done, now)
        elif now - download.elsewhere[1] > ELSEWHERE_PATIENCE:
            download.error = InUse(
                f"another process is fetching {download.digest} and does not get on",
                hint="end that process, then try again",
            )

    def _done(self, download: Download) -> int:
        """What is in, also what the journal does not say yet: people watch it."""
        if download.finished:
            return download.size
        with self._changed:
            partial = download.partial
            cursors = [w.cursor for w in self._working if w.download is download]
        if partial is None:
            return self._partials.done(download.digest)
        fresh = sum(max(0, cursor.position - cursor.noted) for cursor in cursors)
        return min(download.size, partial.ranges.total + fresh)

    def _work(self) -> None:
        while task := self._take():
            worker, start, end = task
            try:
                worker.fetch(start, end)
            except Abandoned:
                pass
            except RunnerError as error:
                self._blame(worker, error)
            except OSError as error:
                self._fail(worker.download, explain(error, self._root))
            except Exception:
                # The top of a thread: whoever waits must hear that it failed.
                log.exception("a download failed")
                self._fail(worker.download, InternalError())
            with self._changed:
                self._working.discard(worker)
            self._end(worker.download)

    def _take(self) -> tuple[Worker, int, int] | None:
        """The next part, of the blob that has the fewest workers and then the fewest parts left;
        None: nothing is left."""
        with self._changed:
            waiting = [d for d in self._active.values() if d.queue and not d.over]
            if not waiting:
                self._threads -= 1
                return None
            download = min(waiting, key=lambda d: (d.running, len(d.queue)))
            download.running += 1
            worker = self._worker(download)
            self._working.add(worker)
            return (worker, *download.queue.popleft())

    def _worker(self, download: Download) -> Worker:
        partial = download.partial
        assert partial
        mine = object()

        def check() -> None:
            if download.over or (download.whole_by not in (None, mine)):
                raise Abandoned

        def next_ticket() -> Ticket:
            with self._changed:
                check()
                return download.tickets[0]

        def take_whole() -> None:
            with self._changed:
                check()
                download.whole_by = mine
                download.queue.clear()

        return Worker(download, partial, next_ticket, take_whole)

    def _blame(self, worker: Worker, error: RunnerError) -> None:
        """A host that refuses one who wants the blob may serve the others."""
        download, ticket, cursor = worker.download, worker.ticket, worker.cursor
        with self._changed:
            if ticket in download.tickets and len(download.tickets) > 1:
                assert ticket
                ticket.error = error
                download.tickets.remove(ticket)
                download.whole_by = None
                download.queue.appendleft((cursor.position, cursor.end))
                return
        self._fail(download, error)

    def _fail(self, download: Download, error: RunnerError) -> None:
        with self._changed:
            download.error = download.error or error

    def _end(self, download: Download) -> None:
        """After each part. The last one has the blob checked and kept, in a thread of its own:
        the disk takes its time, in which the worker goes on with another blob."""
        with self._changed:
            download.running -= 1
            last = not (download.running or download.queue or download.over)
            download.running += last
        if last:
            self._spawn(self._close, download)
            return
        self._let_go(download)

    def _close(self, download: Download) -> None:
        try:
            self._finish(download)
        except RunnerError as error:
            self._fail(download, error)
        except OSError as error:
            self._fail(download, explain(error, self._root))
        except Exception:
            # The top of a thread: whoever waits must hear that it failed.
            log.exception("a download failed at its end")
            self._fail(download, InternalError())
        with self._changed:
            download.running -= 1
        self._let_go(download)

    def _let_go(self, download: Download) -> None:
        with self._changed:
            self._release(download)
            self._changed.notify_all()

    def _finish(self, download: Download) -> None:
        partial = download.partial
        assert partial
        if download.whole_by is not None:  # others wrote beside it, over what was hashed
            partial.hash_anew()
        found = partial.hash.digest(download.size)
        if found == download.digest and download.is_complete():
            partial.keep(self._blobs, download.digest)
            with self._changed:
                download.finished = True
            return
        partial.discard()
        if not download.resumed:
            raise CorruptTransfer(f"{download.digest} came as {found}", hint="try again")
        with self._changed:  # what an earlier attempt left was wrong: once more, from nothing
            download.whole_by = None
            download.plan()

    def _release(self, download: Download) -> None:
        """Closes what nobody needs any more. Called with the lock held."""
        if not download.over:
            return
        key = (download.digest, download.size)
        if self._active.get(key) is download:
            del self._active[key]
        if download.running == 0 and download.partial:
            download.partial.close()
            download.partial = None
