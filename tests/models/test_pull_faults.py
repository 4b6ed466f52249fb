"""Pulls through everything that goes wrong on the way: what is fetched twice, and what is kept."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests

from runner.errors import (
    Conflict,
    CorruptTransfer,
    DiskFull,
    RegistryError,
    RegistryUnauthorized,
    RunnerError,
)
from runner.models.transfer import pull
from runner.registry.http import Http
from runner.registry.reference import Reference
from runner.settings import Settings
from runner.store import download
from runner.store.attempts import ATTEMPTS
from runner.store.downloads import WORKERS
from runner.store.store import ModelStore
from runner.store.stored import StoredModel
from tests.models.pulling import BLOB, OTHER, PART, PATIENCE, authorized, first_of_blob, holds
from tests.models.remote import Remote, remote
from tests.registry import faults
from tests.registry.content import Generated
from tests.registry.exchange import Exchange
from tests.registry.server import Registry, running
from tests.registry.storage import Storage

MIB = 1024 * 1024

pytestmark = pytest.mark.usefixtures("small_parts", "waits")


def blobs_of(server: Registry) -> str:
    return rf"/blobs/({BLOB.digest}|{OTHER.digest})"


def only_right_blobs(store: ModelStore) -> bool:
    blobs = list((store.root / "blobs").glob("*/*"))
    return all(hashlib.sha256(path.read_bytes()).hexdigest() == path.name for path in blobs)


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

    server.lasting.append((f"GET .*{blobs_of(server)}", authorized(meet)))
    pulling()
    assert set(places[:WORKERS]) == {f"/v2/a/b/blobs/{digest}" for digest in model.layers}


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
        server.lasting.append((f"GET .*{BLOB.digest}", authorized(cut)))
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
        server.lasting.append((f"GET .*{BLOB.digest}", authorized(faults.on(3, stall))))
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
    server.lasting.append((f"GET .*{BLOB.digest}", authorized(faults.on(4, faults.whole))))
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


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_layer_that_others_remove_is_fetched_again(
    server: Registry,
    store: ModelStore,
    model: Remote,
    pulling: Callable[[], StoredModel],
    monkeypatch: pytest.MonkeyPatch,
    times: int,
) -> None:
    """It belonged to a model of theirs too; after the third time they are told of."""
    left = times
    commit = ModelStore.commit

    def losing(
        self: ModelStore, manifest: bytes, config: bytes, reference: Reference | None = None
    ) -> StoredModel:
        nonlocal left
        left -= 1
        if left >= 0:
            self.blobs.remove(OTHER.digest)
        return commit(self, manifest, config, reference)

    monkeypatch.setattr(ModelStore, "commit", losing)
    if times < ATTEMPTS:
        assert pulling().id == model.id
        assert holds(store, model)
    else:
        with pytest.raises(Conflict, match=OTHER.digest):
            pulling()
        assert store.list() == ()
    assert server.served.twice(OTHER.digest) == min(times, ATTEMPTS - 1) * OTHER.size
    assert server.served.twice(BLOB.digest) == 0
