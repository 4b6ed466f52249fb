"""What the store takes on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.models.package import package
from runner.models.package_order import PackageOrder
from runner.registry.digest import hex_of
from runner.store.store import ModelStore
from runner.store.usage import disk_usage
from tests.artifacts import golden
from tests.models.packaging import package_gguf
from tests.store.test_store import packaged


def test_an_empty_store_takes_nothing(store: ModelStore) -> None:
    usage = disk_usage(store)
    assert (usage.models, usage.total) == ((), 0)
    assert not store.root.exists()


def test_files_that_models_share_count_once(store: ModelStore, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(golden.GGUF)
    small = package_gguf(store, path, store.reference("small"), context_size=16)
    large = package_gguf(store, path, store.reference("large"), context_size=32)
    usage = disk_usage(store)
    configs = [store.blobs.size(_config(store, model.id)) or 0 for model in (small, large)]
    assert [model.own for model in usage.models] == configs
    assert [model.size - len(golden.GGUF) for model in usage.models] == configs
    assert usage.blobs == len(golden.GGUF) + sum(configs)
    assert usage.total == usage.blobs
    assert usage.models[0].tags == ("docker.io/ai/small:latest",)


def _config(store: ModelStore, model_id: str) -> str:
    return next(entry.files[0] for entry in store.index.entries() if entry.id == model_id)


def test_bundles_of_links_take_nothing(store: ModelStore) -> None:
    store.bundle(packaged(store, "a").id)
    assert disk_usage(store).models[0].bundle < 1024  # the record alone


def test_bundles_of_copies_take_what_they_hold(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    store.bundle(packaged(store, "a").id)
    assert disk_usage(store).bundles >= len(golden.GGUF)


def test_linked_files_belong_to_their_owner(store: ModelStore, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(golden.GGUF)
    model = package(store, PackageOrder(store.reference("a"), gguf=path, link=True))
    usage = disk_usage(store)
    assert usage.linked == len(golden.GGUF)
    assert usage.blobs == store.blobs.size(_config(store, model.id))


def test_what_belongs_to_no_model_is_told_apart(store: ModelStore) -> None:
    packaged(store, "a")
    orphan = store.blobs.add_bytes(b"orphan")
    partial = store.root / "partial" / hex_of(orphan)
    partial.parent.mkdir()
    partial.write_bytes(bytes(4096))
    with partial.open("ab") as file:
        file.truncate(2**40)  # a hole takes nothing
    usage = disk_usage(store)
    assert usage.orphans == 6
    assert 4096 <= usage.partials <= 65536
