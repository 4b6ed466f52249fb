"""The pool of downloads over sources in memory: who shares what, and what stays behind."""

from __future__ import annotations

import contextlib
import hashlib
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest

from runner.errors import (
    CorruptTransfer,
    DiskFull,
    InUse,
    RegistryError,
    RunnerError,
    ShuttingDown,
)
from runner.registry.digest import digest_of, hex_of
from runner.registry.source import Interrupted
from runner.store import download, files
from runner.store import downloads as module
from runner.store.blobs import Blobs
from runner.store.download import Download
from runner.store.downloads import Downloads, Wanted
from runner.store.lock import StoreLock
from runner.store.partial import Partials
from runner.store.ranges import Ranges

PART = 64 * 1024
PATIENCE = 20.0


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PART_SIZE", PART)
    monkeypatch.setattr(download, "BLOCK", PART // 8)
    monkeypatch.setattr(download, "SMALLEST_BLOCK", PART // 8)
    monkeypatch.setattr(download, "NOTED_EVERY", PART // 4)


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path, StoreLock(tmp_path))


@pytest.fixture
def downloads(tmp_path: Path, blobs: Blobs) -> Downloads:
    return Downloads(tmp_path, blobs)


Step = Callable[["Source", int, int], None]


@dataclass
class Source:
    """A blob in memory. `before_read` is called with the part's start and the position."""

    content: bytes
    ranged: bool = True
    total: int | None = None
    before_read: Step = lambda source, start, position: None
    opened: list[tuple[int, int]] = field(default_factory=list)
    read: list[tuple[int, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    interrupted: threading.Event = field(default_factory=threading.Event)
    refusal: RunnerError | None = None

    @property
    def wanted(self) -> Wanted:
        return Wanted(digest_of(self.content), len(self.content), self)

    def open(self, start: int, end: int) -> Body:
        with self.lock:
            self.opened.append((start, end))
        if self.refusal:
            raise self.refusal
        return Body(self, start, end) if self.ranged else Body(self, 0, len(self.content))

    def pause(self, attempt: int) -> None:
        """No waiting in tests."""


class Body:
    def __init__(self, source: Source, start: int, end: int) -> None:
        self.start, self._position, self._end = start, start, end
        self.whole = not source.ranged
        self.total: int | None = len(source.content) if source.total is None else source.total
        self._source = source

    def read(self, size: int) -> bytes:
        self._source.before_read(self._source, self.start, self._position)
        content = self._source.content[self._position : min(self._end, self._position + size)]
        with self._source.lock:
            self._source.read.append((self._position, self._position + len(content)))
        self._position += len(content)
        return content

    def interrupt(self) -> None:
        self._source.interrupted.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        return None


def blob(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def fetch(
    downloads: Downloads, *sources: Source, cancelled: threading.Event | None = None
) -> dict[str, int]:
    """What was told of each blob last."""
    told: dict[str, int] = {}
    downloads.fetch(
        [source.wanted for source in sources], told.__setitem__, cancelled or threading.Event()
    )
    return told


def key_of(source: Source) -> tuple[str, int]:
    return (source.wanted.digest, source.wanted.size)


def kept(blobs: Blobs, source: Source) -> bool:
    path = blobs.path(source.wanted.digest)
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def partial_files(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "partial").iterdir())


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 9 * PART + 17])
def test_a_blob_arrives_in_parts_and_is_kept_read_only(
    size: int, downloads: Downloads, blobs: Blobs, tmp_path: Path
) -> None:
    source = Source(blob(size))
    told = fetch(downloads, source)
    assert kept(blobs, source)
    assert told == {source.wanted.digest: size}
    assert blobs.path(source.wanted.digest).stat().st_mode & 0o777 == 0o444
    assert sorted(source.opened) == [
        (start, min(size, start + PART)) for start in range(0, size, PART)
    ]
    assert partial_files(tmp_path) == []


def test_several_blobs_share_the_workers(downloads: Downloads, blobs: Blobs) -> None:
    sources = [Source(blob(5 * PART, seed)) for seed in range(6)]
    together = threading.Barrier(4)

    def meet(source: Source, start: int, position: int) -> None:
        if source in sources[:4] and (start, position) == (0, 0):
            together.wait(PATIENCE)  # passes only if the first four are read at the same time

    for source in sources:
        source.before_read = meet
    fetch(downloads, *sources)
    assert all(kept(blobs, source) for source in sources)


def test_what_is_begun_is_ended_before_more_is_begun(
    downloads: Downloads, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WORKERS", 1)
    order: list[int] = []
    sources = [Source(blob(3 * PART, seed)) for seed in range(4)]
    for number, source in enumerate(sources):
        source.before_read = lambda *_, number=number: order.append(number)
    fetch(downloads, *sources)
    assert order == sorted(order)
    assert all(kept(blobs, source) for source in sources)


@pytest.mark.skipif(sys.platform != "linux", reason="sync_file_range is Linux's")
def test_the_disk_takes_what_has_come_at_once(
    downloads: Downloads, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, handed = Source(blob(5 * PART + 3)), Ranges()
    real = files._sync_file_range()
    assert real

    def sync_range(handle: int, start: int, length: int, flags: int) -> int:
        handed.add(start, start + length)
        assert real(handle, start, length, flags) == 0
        return -1  # a refusal costs speed alone

    monkeypatch.setattr(files, "_sync_file_range", lambda: sync_range)
    fetch(downloads, source)
    assert list(handed.gaps(len(source.content))) == []
    assert kept(blobs, source)


def test_workers_help_with_a_blob_that_is_alone(downloads: Downloads, blobs: Blobs) -> None:
    source = Source(blob(8 * PART))
    together = threading.Barrier(4)

    def meet(_: Source, start: int, position: int) -> None:
        if start == position and start < 4 * PART:
            together.wait(PATIENCE)

    source.before_read = meet
    fetch(downloads, source)
    assert kept(blobs, source)


def test_what_is_in_the_store_is_not_fetched(downloads: Downloads) -> None:
    source = Source(blob(2 * PART))
    fetch(downloads, source)
    again = Source(source.content)
    assert fetch(downloads, again) == {source.wanted.digest: 2 * PART}
    assert again.opened == []


def test_the_store_is_looked_at_once_before_the_first_byte(
    downloads: Downloads, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [Source(blob(10, seed)) for seed in range(5)]
    fetch(downloads, *sources)
    looked: list[str] = []
    size = Blobs.size

    def look(self: Blobs, digest: str) -> int | None:
        looked.append(digest)
        return size(self, digest)

    monkeypatch.setattr(Blobs, "size", look)
    fetch(downloads, *sources)
    assert looked == [source.wanted.digest for source in sources]


class Gate:
    """Holds a source's readers at a position until it is opened."""

    def __init__(self, position: int = 0) -> None:
        self.position = position
        self.reached = threading.Event()
        self.opened = threading.Event()

    def __call__(self, _: Source, start: int, position: int) -> None:
        if position >= self.position:
            self.reached.set()
            assert self.opened.wait(PATIENCE)


@pytest.fixture
def in_thread() -> Iterator[Callable[[Callable[[], object]], Outcome]]:
    outcomes: list[Outcome] = []

    def start(work: Callable[[], object]) -> Outcome:
        outcomes.append(Outcome(work))
        return outcomes[-1]

    yield start
    for outcome in outcomes:
        outcome.thread.join(PATIENCE)
        assert not outcome.thread.is_alive()


class Outcome:
    """A call in a thread of its own, and how it ended."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(work,))
        self.thread.start()

    def _run(self, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            self.error = error

    def end(self) -> BaseException | None:
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()
        return self.error


InThread = Callable[[Callable[[], object]], Outcome]


def test_two_who_want_a_blob_share_its_download(
    downloads: Downloads, blobs: Blobs, in_thread: InThread
) -> None:
    gate = Gate()
    first = Source(blob(6 * PART), before_read=gate)
    second = Source(first.content)
    one = in_thread(lambda: fetch(downloads, first))
    assert gate.reached.wait(PATIENCE)
    two = in_thread(lambda: fetch(downloads, second))
    gate.opened.set()
    assert (one.end(), two.end()) == (None, None)
    assert kept(blobs, first)
    spans = [span for source in (first, second) for span in source.read if span[0] < span[1]]
    assert sum(end - start for start, end in spans) == 6 * PART


def test_one_of_two_may_leave(downloads: Downloads, blobs: Blobs, in_thread: InThread) -> None:
    gate, leaving = Gate(), threading.Event()
    first = Source(blob(6 * PART), before_read=gate)
    second = Source(first.content)
    one = in_thread(lambda: fetch(downloads, first, cancelled=leaving))
    assert gate.reached.wait(PATIENCE)
    two = in_thread(lambda: fetch(downloads, second))
    while len(downloads._active[key_of(first)].tickets) < 2:
        threading.Event().wait(0.01)
    leaving.set()
    assert isinstance(one.end(), ShuttingDown)
    gate.opened.set()
    assert two.end() is None
    assert kept(blobs, second)


def test_a_cancelled_download_goes_on_where_it_ended(
    downloads: Downloads, blobs: Blobs, tmp_path: Path, in_thread: InThread
) -> None:
    gate, cancelled = Gate(5 * PART), threading.Event()
    first = Source(blob(8 * PART), before_read=gate)
    ended = in_thread(lambda: fetch(downloads, first, cancelled=cancelled))
    assert gate.reached.wait(PATIENCE)
    digest = first.wanted.digest
    while Partials(tmp_path).done(digest) < 4 * PART:
        threading.Event().wait(0.01)
    cancelled.set()
    gate.opened.set()
    assert isinstance(ended.end(), ShuttingDown)
    assert partial_files(tmp_path) == [hex_of(digest), f"{hex_of(digest)}.log"]
    second = Source(first.content)
    fetch(downloads, second)
    assert kept(blobs, second)
    assert sum(end - start for start, end in second.read) <= 4 * PART
    assert partial_files(tmp_path) == []


def test_another_process_finishes_it(
    downloads: Downloads, blobs: Blobs, tmp_path: Path, in_thread: InThread
) -> None:
    """A second pool over the same folder stands for a second process: files are locked alike."""
    gate = Gate()
    first = Source(blob(4 * PART), before_read=gate)
    second = Source(first.content)
    others = Downloads(tmp_path, Blobs(tmp_path, StoreLock(tmp_path)))
    one = in_thread(lambda: fetch(others, first))
    assert gate.reached.wait(PATIENCE)
    two = in_thread(lambda: fetch(downloads, second))
    gate.opened.set()
    assert (one.end(), two.end()) == (None, None)
    assert kept(blobs, first)
    assert second.opened == []
    assert partial_files(tmp_path) == []


def test_wrong_bytes_are_not_kept_and_not_trusted_again(
    downloads: Downloads, blobs: Blobs, tmp_path: Path
) -> None:
    good = blob(3 * PART)
    wrong = Source(good[:PART] + b"x" + good[PART + 1 :])
    wanted = Wanted(digest_of(good), len(good), wrong)
    with pytest.raises(CorruptTransfer, match=f"{digest_of(good)} came as "):
        downloads.fetch([wanted], lambda digest, done: None, threading.Event())
    assert blobs.size(digest_of(good)) is None
    assert Partials(tmp_path).done(digest_of(good)) == 0
    right = Source(good)
    fetch(downloads, right)
    assert kept(blobs, right)


def test_a_partial_that_was_damaged_is_fetched_again(
    downloads: Downloads, blobs: Blobs, tmp_path: Path
) -> None:
    source = Source(blob(4 * PART))
    partial = Partials(tmp_path).open(source.wanted.digest, 4 * PART)
    assert partial
    partial.write(0, b"damaged" * 100)
    partial.wrote(0, 2 * PART)
    partial.close()
    fetch(downloads, source)
    assert kept(blobs, source)
    assert sorted(set(source.opened)) == [(n * PART, (n + 1) * PART) for n in range(4)]


def test_a_whole_partial_is_only_checked(
    downloads: Downloads, blobs: Blobs, tmp_path: Path
) -> None:
    source = Source(blob(2 * PART))
    partial = Partials(tmp_path).open(source.wanted.digest, 2 * PART)
    assert partial
    partial.write(0, source.content)
    partial.wrote(0, 2 * PART)
    partial.close()
    fetch(downloads, source)
    assert kept(blobs, source)
    assert source.opened == []


def test_hosts_without_ranges_are_read_by_one(downloads: Downloads, blobs: Blobs) -> None:
    source = Source(blob(6 * PART), ranged=False)
    fetch(downloads, source)
    assert kept(blobs, source)


def test_a_broken_connection_goes_on_where_it_broke(downloads: Downloads, blobs: Blobs) -> None:
    broken: set[int] = set()

    def break_once(_: Source, start: int, position: int) -> None:
        if position % PART and start not in broken and start % PART == 0:
            broken.add(start)
            raise Interrupted(RegistryError("gone"))

    source = Source(blob(4 * PART), before_read=break_once)
    fetch(downloads, source)
    assert kept(blobs, source)
    assert sum(end - start for start, end in source.read) == 4 * PART
    assert len(source.opened) == 8


def test_a_host_that_brings_nothing_is_given_up(downloads: Downloads) -> None:
    def fail(*_: object) -> None:
        raise Interrupted(RegistryError("can't reach it"))

    source = Source(blob(PART), before_read=fail)
    with pytest.raises(RegistryError, match="can't reach it"):
        fetch(downloads, source)
    assert len(source.opened) == download.MAX_STALLS


def test_a_body_that_ends_early_is_said_to(downloads: Downloads) -> None:
    source = Source(blob(PART))
    content = source.content
    wanted = source.wanted
    source.content, source.total = content[: PART // 2], PART
    with pytest.raises(CorruptTransfer, match=f"ended after {PART // 2} of {PART} bytes"):
        downloads.fetch([wanted], lambda digest, done: None, threading.Event())


def test_a_host_whose_blob_has_another_size_is_refused(downloads: Downloads) -> None:
    source = Source(blob(PART), total=PART + 5)
    with pytest.raises(CorruptTransfer, match=f"has {PART + 5} bytes where it is kept"):
        fetch(downloads, source)


def test_space_is_looked_at_before_the_first_byte(
    downloads: Downloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        free = 1000

    monkeypatch.setattr("shutil.disk_usage", lambda path: Full)
    source = Source(blob(PART))
    with pytest.raises(DiskFull):
        fetch(downloads, source)
    assert source.opened == []


def test_the_pool_is_empty_when_nobody_waits(downloads: Downloads) -> None:
    fetch(downloads, Source(blob(3 * PART)))
    assert downloads._active == {}
    for thread in threading.enumerate():
        if thread.name == "download":
            thread.join(PATIENCE)
    assert not [t for t in threading.enumerate() if t.name == "download"]


def test_bytes_that_another_worker_wrote_late_are_seen(downloads: Downloads, blobs: Blobs) -> None:
    """Part 0 comes as a whole body, good; part 1 comes as a range, wrong, and later."""
    good = blob(4 * PART)
    whole_done, late = threading.Event(), threading.Event()

    class Mixed(Source):
        def open(self, start: int, end: int) -> Body:
            body = super().open(start, end)
            if start == 0:
                assert late.wait(PATIENCE)  # the other range is open by now
                whole = Body(self, 0, len(self.content))
                whole.whole = True
                return whole
            return body

    def hold(source: Source, start: int, position: int) -> None:
        if start:
            late.set()
            whole_done.wait(1.0)

    mixed = Mixed(good, before_read=hold)
    wanted = mixed.wanted
    read = Body.read

    def evil(self: Body, size: int) -> bytes:
        content = read(self, size)
        return content if self.whole else b"x" * len(content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Body, "read", evil)
        with contextlib.suppress(CorruptTransfer):
            downloads.fetch([wanted], lambda digest, done: None, threading.Event())
    path = blobs.path(wanted.digest)
    assert not path.exists() or digest_of(path.read_bytes()) == wanted.digest


class Yielding(threading.Condition):
    """Lets others in each time that it is left."""

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)  # type: ignore[arg-type]
        time.sleep(0.002)


def test_parts_that_end_together_end_the_download(
    downloads: Downloads, blobs: Blobs, in_thread: InThread
) -> None:
    downloads._changed = Yielding()
    together = threading.Barrier(2)

    def meet(source: Source, start: int, position: int) -> None:
        if position % PART == PART - PART // 8:
            together.wait(PATIENCE)

    source = Source(blob(2 * PART), before_read=meet)
    assert in_thread(lambda: fetch(downloads, source)).end() is None
    assert kept(blobs, source)


def test_manifests_that_disagree_about_a_size_do_not_wait_for_each_other(
    downloads: Downloads, blobs: Blobs, in_thread: InThread
) -> None:
    gate = Gate()
    good = Source(blob(4 * PART), before_read=gate)
    bad = Source(good.content)
    one = in_thread(lambda: fetch(downloads, good))
    assert gate.reached.wait(PATIENCE)
    lie = Wanted(good.wanted.digest, 2 * PART, bad)
    two = in_thread(lambda: downloads.fetch([lie], lambda d, n: None, threading.Event()))
    while len(downloads._active) < 2:
        threading.Event().wait(0.01)
    gate.opened.set()
    assert one.end() is None
    assert isinstance(two.end(), CorruptTransfer)
    assert kept(blobs, good)


def test_a_slow_host_leaves_workers_for_others(
    downloads: Downloads, blobs: Blobs, in_thread: InThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PARKED_AFTER", 0.05)
    gate = Gate()
    slow, quick = Source(blob(8 * PART), before_read=gate), Source(blob(PART, 2))
    waiting = in_thread(lambda: fetch(downloads, slow))
    assert gate.reached.wait(PATIENCE)
    fetch(downloads, quick)
    assert kept(blobs, quick)
    gate.opened.set()
    assert waiting.end() is None


def test_a_cancelled_download_wakes_who_waits_for_bytes(
    downloads: Downloads, in_thread: InThread
) -> None:
    cancelled, reached = threading.Event(), threading.Event()

    def silent(source: Source, start: int, position: int) -> None:
        reached.set()
        assert source.interrupted.wait(PATIENCE)
        raise Interrupted(RegistryError("shut down"))

    source = Source(blob(PART), before_read=silent)
    waiting = in_thread(lambda: fetch(downloads, source, cancelled=cancelled))
    assert reached.wait(PATIENCE)
    cancelled.set()
    assert isinstance(waiting.end(), ShuttingDown)
    assert source.interrupted.wait(PATIENCE)


def test_a_silent_host_is_interrupted(
    downloads: Downloads, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE", 0.05)

    def silent(source: Source, start: int, position: int) -> None:
        assert source.interrupted.wait(PATIENCE)
        raise Interrupted(RegistryError("nothing came"))

    with pytest.raises(RegistryError, match="nothing came"):
        fetch(downloads, Source(blob(PART), before_read=silent))


def test_many_blobs_are_not_open_at_once(
    downloads: Downloads, blobs: Blobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    release = Downloads._release

    def look(self: Downloads, download: Download) -> None:
        opened.append(sum(1 for d in self._active.values() if d.partial))
        release(self, download)

    monkeypatch.setattr(Downloads, "_release", look)
    sources = [Source(blob(10, seed)) for seed in range(100)]
    fetch(downloads, *sources)
    assert all(kept(blobs, source) for source in sources)
    assert max(opened) <= module.MOST_OPEN


def test_a_refusal_of_one_is_not_the_others(
    downloads: Downloads, blobs: Blobs, in_thread: InThread
) -> None:
    gate = Gate()
    first = Source(blob(6 * PART), before_read=gate)
    second = Source(first.content)
    one = in_thread(lambda: fetch(downloads, first))
    assert gate.reached.wait(PATIENCE)
    two = in_thread(lambda: fetch(downloads, second))
    while len(downloads._active[key_of(first)].tickets) < 2:
        threading.Event().wait(0.01)
    first.refusal = RegistryError("not for you")
    gate.opened.set()
    refused = one.end()
    assert isinstance(refused, RegistryError)
    assert refused.message == "not for you"
    assert two.end() is None
    assert kept(blobs, second)


def test_another_process_that_does_not_get_on_is_named(
    downloads: Downloads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ELSEWHERE_PATIENCE", 0.2)
    source = Source(blob(PART))
    held = Partials(tmp_path).open(source.wanted.digest, PART)
    assert held
    with pytest.raises(InUse, match="does not get on"):
        fetch(downloads, source)
    held.close()
    fetch(downloads, source)


def test_a_torn_journal_counts_for_nothing(downloads: Downloads, tmp_path: Path) -> None:
    source = Source(blob(PART))
    partial = Partials(tmp_path).open(source.wanted.digest, PART)
    assert partial
    partial.close()
    journal = tmp_path / "partial" / f"{hex_of(source.wanted.digest)}.log"
    journal.write_text(f"0 {'9' * 5000}\n0 x\n-1 5\n0 12")
    fetch(downloads, source)
