"""What tests of pulls have in common: a model of two shards at a registry, in small parts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from runner.models.transfer import pull
from runner.registry.reference import Reference
from runner.settings import Settings
from runner.store import download
from runner.store.store import ModelStore
from runner.store.stored import StoredModel
from tests.models.remote import Remote, remote
from tests.registry import faults
from tests.registry.content import Generated, content_of
from tests.registry.server import Registry, running

PART = 64 * 1024
PATIENCE = 20.0
BLOB = Generated(9 * PART + 17, "one")
OTHER = Generated(5 * PART, "other")


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PART_SIZE", PART)
    monkeypatch.setattr(download, "BLOCK", PART // 8)
    monkeypatch.setattr(download, "NOTED_EVERY", PART // 4)


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


def holds(store: ModelStore, model: Remote) -> bool:
    """Whether the store has the model, and each byte of it."""
    return [found.id for found in store.list()] == [model.id] and all(
        store.blobs.read(digest) == content_of(blob).read(0, content_of(blob).size)
        for digest, blob in model.blobs.items()
    )


def authorized(fault: faults.Fault) -> faults.Fault:
    """For requests that come with a token: the first ones come without."""
    return lambda exchange: bool(exchange.headers.get("Authorization")) and fault(exchange)


def first_of_blob(fault: faults.Fault) -> tuple[str, faults.Fault]:
    return f"GET .*{BLOB.digest}", authorized(fault)
