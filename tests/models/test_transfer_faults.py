"""Pulls from a registry that breaks off, lies and sends web pages: nothing wrong is ever kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import BadModelFile, CorruptTransfer, DiskFull, RegistryError, RunnerError
from runner.models.transfer import pull, push
from runner.registry.reference import Reference
from runner.settings import Settings
from runner.store.store import ModelStore
from tests.artifacts import golden
from tests.registry.server import Fault, Registry, digest_of, running

WEIGHTS = f"GET .*/blobs/{digest_of(golden.GGUF)}"
CONFIG = f"GET .*/blobs/{digest_of(golden.CONFIG)}"


@pytest.fixture
def server() -> Iterator[Registry]:
    with running(Registry(auth="bearer")) as registry:
        for content in (golden.GGUF, golden.CHAT_TEMPLATE, golden.LICENSE, golden.CONFIG):
            registry.add_blob(content)
        registry.manifests["a/b/1"] = golden.MANIFEST
        yield registry


@pytest.fixture
def reference(server: Registry) -> Reference:
    return Reference(server.address, "a/b", "1")


def kept(store: ModelStore) -> set[str]:
    """What lies in the store by its content's digest, wherever it lies."""
    found = {path for path in store.root.rglob("*") if path.is_file()}
    names = {path.relative_to(store.root).as_posix() for path in found}
    return {name for name in names if name.startswith(("blobs/", "tmp/", "manifests/"))}


def only_right_blobs(store: ModelStore) -> bool:
    return all(
        name.startswith("blobs/")
        and hashlib.sha256((store.root / name).read_bytes()).hexdigest() == Path(name).name
        for name in kept(store)
    )


def test_the_server_itself_is_sound(
    store: ModelStore, reference: Reference, settings: Settings
) -> None:
    assert pull(store, reference, settings).tags == (reference.long,)
    assert push(store, reference, settings) == digest_of(golden.MANIFEST)


FAULTS: dict[str, tuple[str, Fault, type[RunnerError]]] = {
    "other bytes": (WEIGHTS, lambda h: h.answer(200, bytes(368)), CorruptTransfer),
    "too many": (WEIGHTS, lambda h: h.answer(200, golden.GGUF + b"!"), CorruptTransfer),
    "too few": (WEIGHTS, lambda h: h.answer(200, golden.GGUF[:-1]), CorruptTransfer),
    "web page": (WEIGHTS, lambda h: h.answer(200, b"<html>please log in"), CorruptTransfer),
    "breaks off": (WEIGHTS, lambda h: h.break_off(golden.GGUF[:100], 368), RegistryError),
    "missing": (WEIGHTS, lambda h: h.answer(404), RegistryError),
    "config of other bytes": (CONFIG, lambda h: h.answer(200, bytes(671)), CorruptTransfer),
    "long config": (CONFIG, lambda h: h.answer(200, bytes(10**6)), CorruptTransfer),
    "busy": (WEIGHTS, lambda h: h.answer(429, b"", {"Retry-After": "999"}), RegistryError),
    "manifest of HTML": ("GET .*/manifests/", lambda h: h.answer(200, b"<p>"), RegistryError),
    "no manifest": ("GET .*/manifests/", lambda h: h.answer(200, b"hello"), BadModelFile),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_leave_nothing_wrong(
    store: ModelStore, server: Registry, reference: Reference, settings: Settings, name: str
) -> None:
    pattern, fault, error = FAULTS[name]
    server.lasting.append((pattern, fault))
    with pytest.raises(error):
        pull(store, reference, settings)
    assert store.list() == ()
    assert only_right_blobs(store)
    server.lasting.clear()
    assert pull(store, reference, settings).id == digest_of(golden.MANIFEST)


def test_a_pull_that_breaks_off_once_succeeds(
    store: ModelStore, server: Registry, reference: Reference, settings: Settings
) -> None:
    server.faults.append((WEIGHTS, lambda h: h.break_off(golden.GGUF[:100], 368)))
    model = pull(store, reference, settings)
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF


def test_space_is_asked_for_before_the_first_byte(
    store: ModelStore, server: Registry, reference: Reference, settings: Settings
) -> None:
    document = json.loads(golden.MANIFEST)
    document["layers"][0]["size"] = 2**49
    server.manifests["a/b/1"] = json.dumps(document).encode()
    with pytest.raises(DiskFull):
        pull(store, reference, settings)
    assert server.seen("GET", WEIGHTS.removeprefix("GET ")) == []


def test_a_path_out_of_the_store_is_refused(
    store: ModelStore, server: Registry, reference: Reference, settings: Settings
) -> None:
    document = json.loads(golden.MANIFEST)
    document["layers"][0]["annotations"]["org.cncf.model.filepath"] = "../../etc/x"
    server.manifests["a/b/1"] = json.dumps(document).encode()
    with pytest.raises(BadModelFile, match="leads out"):
        pull(store, reference, settings)
    assert kept(store) == set()
