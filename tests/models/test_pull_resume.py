"""Pulls that were broken off and taken up again, and downloads that several pulls share."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from runner.errors import ShuttingDown
from runner.models.progress import ProgressEvent
from runner.models.transfer import pull
from runner.registry.reference import Reference
from runner.settings import Settings
from runner.store import download
from runner.store.downloads import WORKERS
from runner.store.store import ModelStore
from runner.store.stored import StoredModel
from tests.models.pulling import BLOB, PART, PATIENCE, first_of_blob, holds
from tests.models.remote import Remote, remote
from tests.registry import faults
from tests.registry.content import Generated
from tests.registry.server import Registry
from tests.store import nursery as nurseries
from tests.store.nursery import Order, nursery

pytestmark = pytest.mark.usefixtures("small_parts", "waits")


class Waiting:
    """Pulls in threads of their own, each of which can be cancelled."""

    def __init__(self, reference: Reference, settings: Settings) -> None:
        self._reference = reference
        self._settings = settings
        self.pool = ThreadPoolExecutor(4)

    def pull(self, store: ModelStore, cancelled: threading.Event) -> Future[StoredModel]:
        return self.pool.submit(
            pull, store, self._reference, self._settings, lambda _: None, cancelled
        )


@pytest.fixture
def waiting(reference: Reference, settings: Settings) -> Iterator[Waiting]:
    waiting = Waiting(reference, settings)
    with waiting.pool:
        yield waiting


def test_a_cancelled_pull_is_taken_up_where_it_was(
    server: Registry,
    store: ModelStore,
    model: Remote,
    waiting: Waiting,
    pulling: Callable[[], StoredModel],
) -> None:
    cancelled = threading.Event()
    with faults.Stall(100) as stall:
        server.lasting.append(first_of_blob(faults.on(7, stall)))
        ended = waiting.pull(store, cancelled)
        assert stall.reached.wait(PATIENCE)
        cancelled.set()
        stall.release()
        with pytest.raises(ShuttingDown):
            ended.result(PATIENCE)
    assert store.list() == ()
    before = server.served.total(BLOB.digest)
    assert before > 2 * PART
    pulling()
    assert holds(store, model)
    assert server.served.twice(BLOB.digest) <= WORKERS * PART
    assert server.served.total(BLOB.digest) - before < BLOB.size


def test_a_killed_pull_loses_at_most_one_part_per_worker(
    server: Registry,
    store: ModelStore,
    settings: Settings,
    reference: Reference,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    part = nurseries.PART_SIZE
    monkeypatch.setattr(download, "PART_SIZE", part)
    large = Generated(24 * part + 1, "large")
    model = remote(large)
    model.serve(server)
    with nursery() as children:
        order = Order(str(store.root), ("pull", reference.long), step="download", ordinal=25)
        outcome = children.run(order)
    assert outcome.killed, outcome
    first = server.served.total(large.digest)
    assert first > 4 * part
    assert store.list() == ()
    pull(store, reference, settings)
    assert holds(store, model)
    assert server.served.twice(large.digest) <= WORKERS * part
    assert server.served.total(large.digest) - first < large.size - first + (WORKERS + 1) * part


def test_two_pulls_share_one_download(
    server: Registry, store: ModelStore, model: Remote, waiting: Waiting
) -> None:
    """Whether they are of one store or, as two processes would, of two on the same folder."""
    stores = (store, store, ModelStore(store.root))
    with faults.Stall(100) as stall:
        server.lasting.append(first_of_blob(faults.on(1, stall)))
        pulls = [waiting.pull(one, threading.Event()) for one in stores]
        assert stall.reached.wait(PATIENCE)
        wait_for_manifests(server, len(stores))
        stall.release()
        assert {ended.result(PATIENCE).id for ended in pulls} == {model.id}
    assert holds(store, model)
    for digest in model.layers:
        assert server.served.twice(digest) == 0


def wait_for_manifests(server: Registry, count: int) -> None:
    """Until so many pulls have read the manifest, and so are about to want the blobs."""
    ticks = itertools.count()
    while len({id(r) for r in server.seen("GET", "/manifests/") if r.authorization}) < count:
        assert next(ticks) < PATIENCE / 0.01
        threading.Event().wait(0.01)


def test_two_processes_share_one_download(
    server: Registry, store: ModelStore, model: Remote, reference: Reference
) -> None:
    order = Order(str(store.root), ("pull", reference.long))
    with faults.Stall(100) as stall, nursery() as one, nursery() as two:
        server.lasting.append(first_of_blob(faults.on(1, stall)))
        with ThreadPoolExecutor(2) as pool:
            pulls = [pool.submit(children.run, order) for children in (one, two)]
            assert stall.reached.wait(PATIENCE)
            wait_for_manifests(server, 2)
            stall.release()
            outcomes = [ended.result(PATIENCE) for ended in pulls]
    assert [outcome.error for outcome in outcomes] == ["", ""]
    assert holds(store, model)
    for digest in model.layers:
        assert server.served.twice(digest) == 0


@pytest.mark.parametrize("leaver", [0, 1])
def test_one_of_two_may_leave(
    server: Registry, store: ModelStore, model: Remote, waiting: Waiting, leaver: int
) -> None:
    """Whoever it was that came first."""
    cancelled = [threading.Event(), threading.Event()]
    with faults.Stall(100) as stall:
        server.lasting.append(first_of_blob(faults.on(2, stall)))
        first = waiting.pull(store, cancelled[0])
        assert stall.reached.wait(PATIENCE)
        second = waiting.pull(store, cancelled[1])
        wait_for_manifests(server, 2)
        cancelled[leaver].set()
        with pytest.raises(ShuttingDown):
            (first, second)[leaver].result(PATIENCE)
        stall.release()
        assert (first, second)[1 - leaver].result(PATIENCE).id == model.id
    assert holds(store, model)


def broken_off(server: Registry, store: ModelStore, waiting: Waiting) -> Path:
    """The partial file of a pull that was cancelled in the middle."""
    cancelled = threading.Event()
    with faults.Stall(100) as stall:
        server.lasting.append(first_of_blob(faults.on(7, stall)))
        ended = waiting.pull(store, cancelled)
        assert stall.reached.wait(PATIENCE)
        cancelled.set()
        stall.release()
        with pytest.raises(ShuttingDown):
            ended.result(PATIENCE)
    server.lasting.clear()
    return store.root / "partial" / BLOB.digest.removeprefix("sha256:")


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))


def claim_all(path: Path) -> None:
    path.with_name(f"{path.name}.log").write_text(f"0 {BLOB.size}\n")


def claim_too_much(path: Path) -> None:
    path.with_name(f"{path.name}.log").write_text(f"0 {10 * BLOB.size}\n-1 5\nx y\n7 3\n")


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(100)


def lose_journal(path: Path) -> None:
    path.with_name(f"{path.name}.log").unlink()


def garble_journal(path: Path) -> None:
    path.with_name(f"{path.name}.log").write_bytes(bytes(range(256)) * 4)


@pytest.mark.parametrize(
    "damage", [flip, claim_all, claim_too_much, cut, lose_journal, garble_journal]
)
def test_a_damaged_partial_is_recovered_from(
    server: Registry,
    store: ModelStore,
    model: Remote,
    waiting: Waiting,
    pulling: Callable[[], StoredModel],
    damage: Callable[[Path], None],
) -> None:
    damage(broken_off(server, store, waiting))
    assert pulling().id == model.id
    assert holds(store, model)


def test_progress_of_a_resumed_pull_starts_where_it_was(
    server: Registry,
    store: ModelStore,
    model: Remote,
    waiting: Waiting,
    reference: Reference,
    settings: Settings,
) -> None:
    broken_off(server, store, waiting)
    events: list[ProgressEvent] = []
    pull(store, reference, settings, events.append)
    told = [event.current for event in events if event.layer == BLOB.digest]
    assert told[0] > 0
    assert told[-1] == BLOB.size
    assert told == sorted(told)
