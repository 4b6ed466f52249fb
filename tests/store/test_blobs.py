"""Blobs: copies, reflinks, and hard links to files that stay their owner's."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import BadInput, Conflict
from runner.models.package import package
from runner.models.package_order import PackageOrder
from runner.models.transfer import push
from runner.settings import Settings
from runner.store import blobs
from runner.store.archive import export_models
from runner.store.store import ModelStore
from runner.store.stored import StoredModel
from tests.artifacts import golden
from tests.models.packaging import package_gguf


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "mine.gguf"
    path.write_bytes(golden.GGUF)
    path.chmod(0o640)
    os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


def linked(store: ModelStore, source: Path, name: str = "mine") -> StoredModel:
    return package(store, PackageOrder(store.reference(name), gguf=source, link=True))


def edited(path: Path) -> None:
    """In place, the same size: what an editor does to a file that it may write."""
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")


WEIGHTS = sha256(golden.GGUF)


def test_a_link_is_the_same_file_and_read_only(store: ModelStore, source: Path) -> None:
    model = linked(store, source)
    blob = store.blobs.path(WEIGHTS)
    assert os.path.samestat(blob.stat(), source.stat())
    assert source.stat().st_mode & 0o777 == 0o444
    assert source.stat().st_mtime == 1_700_000_000
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF
    record = json.loads((store.root / "links.json").read_text())["links"][WEIGHTS]
    assert record == {
        "path": str(source),
        "inode": source.stat().st_ino,
        "size": len(golden.GGUF),
        "mtime_ns": 1_700_000_000 * 10**9,
        "successor": 0,
        "mode": 0o640,
    }


def test_a_link_is_read_once(
    store: ModelStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []
    monkeypatch.setattr(blobs, "BLOCK", 100)
    store.blobs.add_file(source, told.append, link=True)
    assert told == [100, 200, 300, len(golden.GGUF)]
    assert not list((store.root / "tmp").iterdir())


@pytest.mark.parametrize("how", ["load", "push", "export", "again"])
def test_a_link_that_was_edited_is_never_used(
    store: ModelStore, source: Path, tmp_path: Path, how: str
) -> None:
    model = linked(store, source)
    store.bundle(model.id)
    edited(source)
    with pytest.raises(Conflict, match=r"mine\.gguf was edited after it was packaged") as caught:
        if how == "load":
            store.bundle(model.id)
        elif how == "push":
            push(store, model.id, Settings(), target=store.reference("localhost:1/x"))
        elif how == "export":
            export_models(store, ["mine"], tmp_path / "x.tar")
        else:
            ModelStore(store.root).blobs.check_link(WEIGHTS)
    assert "package it again" in caught.value.hint
    assert not (tmp_path / "x.tar").exists()


def test_an_edited_link_is_missing_for_a_pull(store: ModelStore, source: Path) -> None:
    linked(store, source)
    edited(source)
    assert store.blobs.size(WEIGHTS) is None
    with store.blobs.writer(WEIGHTS, len(golden.GGUF)) as writer:
        writer.write(golden.GGUF)
    assert store.bundle(store.get("mine").id).model_file.read_bytes() == golden.GGUF
    assert store.blobs.links.all() == {}
    assert source.read_bytes()[-1:] == b"!"


def test_packaging_again_takes_the_edited_file_as_it_is_now(
    store: ModelStore, source: Path
) -> None:
    first = linked(store, source)
    edited(source)
    second = linked(store, source)
    assert second.id != first.id
    assert store.bundle(second.id).model_file.read_bytes() == source.read_bytes()
    with pytest.raises(Conflict):
        store.bundle(first.id)


def test_an_edit_undone_elsewhere_makes_the_old_model_whole(
    store: ModelStore, source: Path, tmp_path: Path
) -> None:
    """The bundle still links to the edited file then, which is of the same size."""
    model = linked(store, source)
    store.bundle(model.id)
    edited(source)
    original = tmp_path / "copies" / "mine.gguf"
    original.parent.mkdir()
    original.write_bytes(golden.GGUF)
    assert linked(store, original).id == model.id
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF
    source.unlink()
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF


def test_a_file_replaced_by_a_rename_leaves_the_link_as_it_was(
    store: ModelStore, source: Path
) -> None:
    model = linked(store, source)
    source.with_name("new").write_bytes(b"other")
    source.with_name("new").rename(source)
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF


def test_packaging_without_a_link_makes_an_own_copy(store: ModelStore, source: Path) -> None:
    model = linked(store, source)
    assert package_gguf(store, source, store.reference("copy")).id == model.id
    edited(source)
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF
    assert store.blobs.links.all() == {}


def test_a_link_that_a_copy_replaced_is_writable_again(store: ModelStore, source: Path) -> None:
    linked(store, source)
    package_gguf(store, source, store.reference("copy"))
    assert source.stat().st_mode & 0o777 == 0o640
    assert store.blobs.path(WEIGHTS).stat().st_mode & 0o777 == 0o444


def test_a_file_that_another_blob_is_stays_read_only(store: ModelStore, source: Path) -> None:
    linked(store, source, "old")
    edited(source)
    linked(store, source, "new")
    store.remove("old")
    assert source.stat().st_mode & 0o777 == 0o444
    store.remove("new")
    assert source.stat().st_mode & 0o777 == 0o644


def test_a_record_without_modes_is_read(store: ModelStore, source: Path) -> None:
    linked(store, source)
    record = store.root / "links.json"
    document = json.loads(record.read_text())
    del document["links"][WEIGHTS]["mode"]
    record.write_text(json.dumps(document))
    store.remove("mine")
    assert source.stat().st_mode & 0o777 == 0o444


def test_a_copy_that_is_there_is_not_linked(store: ModelStore, source: Path) -> None:
    package_gguf(store, source, store.reference("copy"))
    linked(store, source)
    assert not os.path.samestat(store.blobs.path(WEIGHTS).stat(), source.stat())
    assert source.stat().st_mode & 0o200
    assert store.blobs.links.all() == {}


def test_a_symbolic_link_is_followed(store: ModelStore, source: Path, tmp_path: Path) -> None:
    (tmp_path / "alias.gguf").symlink_to(source)
    linked(store, tmp_path / "alias.gguf")
    assert os.path.samestat(store.blobs.path(WEIGHTS).stat(), source.stat())
    assert store.blobs.links.all()[WEIGHTS].path == str(source)


def test_removing_a_linked_model_leaves_the_file(store: ModelStore, source: Path) -> None:
    linked(store, source)
    store.remove("mine")
    assert source.read_bytes() == golden.GGUF
    assert source.stat().st_mode & 0o777 == 0o640
    assert store.blobs.links.all() == {}
    assert not store.blobs.path(WEIGHTS).exists()


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    for folder in (Path("/dev/shm"), Path("/run")):  # memory, on every Linux
        if folder.is_dir() and folder.stat().st_dev != tmp_path.stat().st_dev:
            path = folder / f"runner-test-{os.getpid()}.gguf"
            path.write_bytes(golden.GGUF)
            yield path
            path.unlink()
            return
    raise AssertionError("this test needs two file systems")


@pytest.mark.skipif(sys.platform != "linux", reason="looks for a file system of Linux")
def test_a_file_of_another_file_system_is_refused_at_once(
    store: ModelStore, elsewhere: Path
) -> None:
    with pytest.raises(BadInput, match="another file system") as caught:
        linked(store, elsewhere)
    assert "models_path" in caught.value.hint
    assert store.list() == ()
    assert elsewhere.stat().st_mode & 0o200


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMLINK])
def test_what_the_system_does_not_link(
    store: ModelStore, source: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(BadInput, match="can't be linked"):
        store.blobs.add_file(source, link=True)


def test_a_file_that_changes_while_it_is_linked(store: ModelStore, source: Path) -> None:
    def grow(_: int) -> None:
        with source.open("ab") as file:
            file.write(b"!")

    with pytest.raises(BadInput, match="changed while"):
        store.blobs.add_file(source, grow, link=True)
    assert list(store.blobs.all()) == []
    assert source.stat().st_mode & 0o200


def test_an_unreadable_record_of_links_is_said(store: ModelStore, source: Path) -> None:
    model = linked(store, source)
    (store.root / "links.json").write_text("{")
    with pytest.raises(Conflict, match=r"links\.json") as caught:
        ModelStore(store.root).bundle(model.id)
    assert "runner check --repair" in caught.value.hint


def test_a_reflink_where_the_file_system_has_them(
    store: ModelStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the ioctl does is done by hand: the rest must hash the clone, and keep it."""

    def clone(source: int, target: int) -> bool:
        os.pwrite(target, os.pread(source, 2**20, 0), 0)
        return True

    monkeypatch.setattr(blobs, "_clone", clone)
    digest, size = store.blobs.add_file(source)
    assert (digest, size) == (WEIGHTS, len(golden.GGUF))
    assert store.blobs.read(digest) == golden.GGUF
    assert store.blobs.path(digest).stat().st_mode & 0o777 == 0o444
    assert source.stat().st_mode & 0o200
