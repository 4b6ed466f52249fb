"""Pulls through everything that goes wrong on the way: what is fetched twice, and what is kept."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from runner.errors import (
    CorruptTransfer,
    DiskFull,
    RegistryError,
    RegistryUnauthorized,
    RunnerError,
    ShuttingDown,
)
from runner.models.progress import ProgressEvent
from runner.models.transfer import pull
from runner.registry.http import Http
from runner.registry.reference import Reference
from runner.settings import Settings
from runner.store import download
from runner.store.downloads import WORKERS
from runner.store.store import ModelStore, StoredModel
from tests.models.remote import Remote, remote
from tests.registry import faults
from tests.registry.content import Generated, content_of
from tests.registry.exchange import Exchange
from tests.registry.server import Registry, running
from tests.registry.storage import Storage
from tests.store import nursery as nurseries
from tests.store.nursery import Order, nursery

PART = 64 * 1024
MIB = 1024 * 1024
PATIENCE = 20.0
BLOB = Generated(9 * PART + 17, "one")
OTHER = Generated(5 * PART, "other")


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PART_SIZE", PART)
    monkeypatch.setattr(download, "BLOCK", PART // 8)
    monkeypatch.setattr(download, "NOTED_EVERY", PART // 4)


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The pauses that were asked for, which take no time here."""
    asked: list[float | None] = []

    def pause(self: Http, attempt: int, delay: float | None = None) -> None:
        asked.append(delay)
        if self._cancelled.is_set():
            raise ShuttingDown("the transfer was cancelled")

    monkeypatch.setattr(Http, "pause", pause)
    return asked


@pytest.fixture
def server() -> Iterator[Registry]:
    with running(Registry(auth="bearer")) as registry:
        yield registry


@pytest.fixture
def model(server: Registry) -> Remote:
    made = remote(BLOB, OTHER)
    made.serve(server)
    return made


@pytest.fixture
def reference(server: Registry) -> Reference:
    return Reference(server.address, "a/b", "1")


@pytest.fixture
def pulling(
    store: ModelStore, reference: Reference, settings: Settings
) -> Callable[[], StoredModel]:
    """A pull that is cancelled rather than waited for without end."""

    def within_patience() -> StoredModel:
        cancelled = threading.Event()
        timer = threading.Timer(PATIENCE, cancelled.set)
        timer.start()
        try:
            return pull(store, reference, settings, cancelled=cancelled)
        finally:
            timer.cancel()
            timer.join()

    return within_patience


def blobs_of(server: Registry) -> str:
    return rf"/blobs/({BLOB.digest}|{OTHER.digest})"


def only_right_blobs(store: ModelStore) -> bool:
    blobs = list((store.root / "blobs").glob("*/*"))
    return all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in blobs)


def holds(store: ModelStore, model: Remote) -> bool:
    """Whether the store has the model, and each byte of it."""
    return [found.id for found in store.list()] == [model.id] and all(
        store.blobs.read(digest) == content_of(blob).read(0, content_of(blob).size)
        for digest, blob in model.blobs.items()
    )


# What is asked for


def test_ranges_of_64_MiB(  # noqa: N802
    server: Registry,
    pulling: Callable[[], StoredModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    large = Generated(130 * MIB, "large")
    remote(large).serve(server)
    pulling()
    asked = {request.range for request in server.seen("GET", large.digest)} - {""}
    assert asked == {
        "bytes=0-67108863",
        "bytes=67108864-134217727",
        f"bytes=134217728-{large.size - 1}",
    }


def test_every_byte_is_asked_for_once(
    server: Registry, store: ModelStore, model: Remote, pulling: Callable[[], StoredModel]
) -> None:
    assert pulling().id == model.id
    assert holds(store, model)
    for blob in (BLOB, OTHER):
        assert server.served.total(blob.digest) == blob.size
        assert server.served.twice(blob.digest) == 0


def test_parts_of_all_layers_come_at_the_same_time(
    server: Registry, model: Remote, pulling: Callable[[], StoredModel]
) -> None:
    """Passes only if as many requests as there are workers are under way together."""
    together, places = threading.Barrier(WORKERS), list[str]()
    lock = threading.Lock()

    def meet(exchange: Exchange) -> bool:
        with lock:
            places.append(exchange.path)
            is_first = len(places) <= WORKERS
        if is_first:
            together.wait(PATIENCE)
        return False

    server.lasting.append((f"GET .*{blobs_of(server)}", _authorized(meet)))
    pulling()
    assert set(places[:WORKERS]) == {f"/v2/a/b/blobs/{digest}" for digest in model.layers}


def _authorized(fault: faults.Fault) -> faults.Fault:
    """For requests that come with a token: the first ones come without."""
    return lambda exchange: bool(exchange.headers.get("Authorization")) and fault(exchange)


def test_only_missing_blobs_are_fetched(
    server: Registry, store: ModelStore, settings: Settings, pulling: Callable[[], StoredModel]
) -> None:
    remote(BLOB).serve(server)
    pulling()
    server.requests.clear()
    remote(BLOB, OTHER).serve(server, "c/d/2")
    pull(store, Reference(server.address, "c/d", "2"), settings)
    assert server.seen("GET", BLOB.digest) == []
    assert server.seen("GET", OTHER.digest)


def test_one_token_serves_all_workers(
    server: Registry, model: Remote, pulling: Callable[[], StoredModel]
) -> None:
    pulling()
    assert len(server.seen("GET", "/token")) == 1


# What passes


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_failures_are_tried_again(
    server: Registry,
    store: ModelStore,
    model: Remote,
    pulling: Callable[[], StoredModel],
    waits: list[float | None],
    status: int,
) -> None:
    """Wherever they come, and after as long as was asked for."""
    busy = faults.status(status, retry_after=7)
    for number, pattern in enumerate(("/manifests/", "/blobs/", blobs_of(server)), 1):
        server.lasting.append((f"GET .*{pattern}", faults.on(2 * number, busy)))
    server.faults.append((f"GET .*{OTHER.digest}", busy))
    pulling()
    assert holds(store, model)
    assert waits.count(7.0) >= 3
    assert set(waits) == {7.0}


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_token_service_is_asked_again(
    server: Registry,
    store: ModelStore,
    model: Remote,
    pulling: Callable[[], StoredModel],
    waits: list[float | None],
    status: int,
) -> None:
    server.faults.append(("GET /token", faults.status(status, retry_after=7)))
    pulling()
    assert holds(store, model)
    assert waits == [7.0]


def test_a_wait_without_end_is_left_to_the_person(
    server: Registry, model: Remote, pulling: Callable[[], StoredModel]
) -> None:
    server.lasting.append((f"GET .*{BLOB.digest}", faults.status(429, retry_after=3600)))
    with pytest.raises(RegistryError, match="3600 s"):
        pulling()


@pytest.mark.parametrize("after", [0, 1, PART // 2, PART - 1])
def test_a_disconnect_goes_on_where_it_was(
    server: Registry,
    store: ModelStore,
    model: Remote,
    pulling: Callable[[], StoredModel],
    after: int,
) -> None:
    for number in (2, 5):
        cut = faults.on(number, faults.disconnect(after))
        server.lasting.append((f"GET .*{BLOB.digest}", _authorized(cut)))
    pulling()
    assert holds(store, model)
    assert server.served.twice(BLOB.digest) == 0


def test_a_stall_is_ended_and_tried_again(
    server: Registry,
    store: ModelStore,
    model: Remote,
    pulling: Callable[[], StoredModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    send = Http.send

    def impatient(self: Http, *arguments: Any, **_: object) -> requests.Response:  # noqa: ANN401
        return send(self, *arguments, answer_within=0.3)

    monkeypatch.setattr(Http, "send", impatient)
    with faults.Stall(100) as stall:
        server.lasting.append((f"GET .*{BLOB.digest}", _authorized(faults.on(3, stall))))
        pulling()
        assert stall.left.wait(PATIENCE)
    assert holds(store, model)
    assert server.served.twice(BLOB.digest) <= download.BLOCK


def test_a_registry_without_ranges(
    server: Registry, store: ModelStore, model: Remote, pulling: Callable[[], StoredModel]
) -> None:
    server.lasting.append((f"GET .*{blobs_of(server)}", faults.whole))
    pulling()
    assert holds(store, model)


def test_a_registry_that_forgets_ranges_midway(
    server: Registry, store: ModelStore, model: Remote, pulling: Callable[[], StoredModel]
) -> None:
    server.lasting.append((f"GET .*{BLOB.digest}", _authorized(faults.on(4, faults.whole))))
    pulling()
    assert holds(store, model)


@pytest.mark.parametrize("uses", [0, 1, 3])
def test_storage_hosts_see_no_credentials(store: ModelStore, settings: Settings, uses: int) -> None:
    """Nor does it matter how soon their addresses expire."""
    with running(Registry(auth="bearer", storage=Storage(uses))) as server:
        assert server.storage
        model = remote(BLOB, OTHER)
        model.serve(server)
        pull(store, Reference(server.address, "a/b", "1"), settings)
        requests = server.storage.requests
        assert {request.authorization for request in requests} == {""}
        assert server.served.twice(BLOB.digest) == 0
        asked = len(server.seen("GET", BLOB.digest))
        assert asked > 3 if uses == 1 else asked <= 1 + WORKERS + 10 // (uses or 10)
    assert holds(store, model)


def test_a_storage_host_that_breaks_off(store: ModelStore, settings: Settings) -> None:
    with running(Registry(auth="bearer", storage=Storage())) as server:
        assert server.storage
        model = remote(BLOB, OTHER)
        model.serve(server)
        busy = faults.status(503, retry_after=1)
        server.storage.faults += [faults.disconnect(1000), busy, faults.disconnect(0)]
        pull(store, Reference(server.address, "a/b", "1"), settings)
    assert holds(store, model)


# What does not pass: said, and nothing wrong is kept


def first_of_blob(fault: faults.Fault) -> tuple[str, faults.Fault]:
    return f"GET .*{BLOB.digest}", _authorized(fault)


LASTING: dict[str, tuple[faults.Fault, type[RunnerError], str]] = {
    "wrong bytes": (faults.wrong_bytes, CorruptTransfer, BLOB.digest),
    "whole, wrong bytes": (
        lambda e: faults.whole(e) or faults.wrong_bytes(e),
        CorruptTransfer,
        BLOB.digest,
    ),
    "too long": (
        lambda e: faults.whole(e) or faults.resized(5)(e),
        CorruptTransfer,
        f"{BLOB.size + 5} bytes",
    ),
    "too short": (
        lambda e: faults.whole(e) or faults.resized(-5)(e),
        CorruptTransfer,
        f"{BLOB.size - 5} bytes",
    ),
    "short parts": (faults.resized(-PART), RegistryError, "ended after"),
    "web page": (faults.web_page, RegistryError, "web page"),
    "another range": (faults.other_range, RegistryError, "another range"),
    "missing": (faults.status(404), RegistryError, "has no blob"),
    "forbidden": (faults.status(403), RegistryUnauthorized, "refuses|needs a login"),
    "disconnects": (faults.disconnect(0), RegistryError, "can't reach|ended|closed|broke"),
    "failure": (faults.status(500), RegistryError, "answered 500"),
}


@pytest.mark.parametrize("name", LASTING)
def test_lasting_faults_are_said_and_leave_nothing_wrong(
    server: Registry,
    store: ModelStore,
    model: Remote,
    pulling: Callable[[], StoredModel],
    name: str,
) -> None:
    fault, error, words = LASTING[name]
    server.lasting.append(first_of_blob(fault))
    with pytest.raises(error, match=words) as caught:
        pulling()
    assert "\n" not in caught.value.message
    assert store.list() == ()
    assert only_right_blobs(store)
    assert store.blobs.size(BLOB.digest) is None
    server.lasting.clear()
    assert pulling().id == model.id
    assert holds(store, model)


def test_one_wrong_part_fails_the_blob_and_is_not_kept_for_the_next_pull(
    server: Registry, store: ModelStore, model: Remote, pulling: Callable[[], StoredModel]
) -> None:
    server.lasting.append(first_of_blob(faults.on(3, faults.wrong_bytes)))
    with pytest.raises(CorruptTransfer, match=BLOB.digest):
        pulling()
    pulling()
    assert holds(store, model)


@pytest.mark.parametrize("change", [-1, 1, 3 * PART])
def test_a_manifest_that_gives_another_size(
    server: Registry, store: ModelStore, pulling: Callable[[], StoredModel], change: int
) -> None:
    model = remote(BLOB)
    model.serve(server)
    told = str(BLOB.size).encode()
    server.manifests["a/b/1"] = model.manifest.replace(told, str(BLOB.size + change).encode())
    with pytest.raises(CorruptTransfer, match=f"{BLOB.size}"):
        pulling()
    assert store.list() == ()
    assert only_right_blobs(store)


def test_no_space_is_said_before_the_first_byte(
    server: Registry,
    store: ModelStore,
    model: Remote,
    pulling: Callable[[], StoredModel],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = shutil.disk_usage(store.root.parent)

    def nearly_full(_: object) -> shutil._ntuple_diskusage:
        return real._replace(free=64 * MIB + model.size - 1)

    monkeypatch.setattr(shutil, "disk_usage", nearly_full)
    with pytest.raises(DiskFull, match="must be free") as caught:
        pulling()
    assert "runner rm" in caught.value.hint
    assert server.seen("GET", blobs_of(server)) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda _: real._replace(free=65 * MIB + model.size))
    assert pulling().id == model.id


# What is taken up again


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
