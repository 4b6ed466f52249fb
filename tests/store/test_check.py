"""The check: every wrong byte and every loose end is found, and repaired as far as can be."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from runner.errors import Conflict, ShuttingDown
from runner.models.package import package
from runner.models.package_order import PackageOrder
from runner.registry.digest import hex_of
from runner.store import check as check_module
from runner.store.check import Findings, ProblemKind, check
from runner.store.store import ModelStore
from tests.artifacts import golden
from tests.models.packaging import package_gguf
from tests.store.test_blobs import WEIGHTS, edited
from tests.store.test_store import named, packaged


def kinds(findings: Findings) -> list[ProblemKind]:
    return [problem.kind for problem in findings.problems]


def overwrite(path: Path, content: bytes) -> None:
    mode = path.stat().st_mode
    path.chmod(0o644)
    path.write_bytes(content)
    path.chmod(mode)


def spoilt(content: bytes) -> bytes:
    return content[:-1] + b"!"


@pytest.fixture(params=[False, True], ids=["found", "repaired"])
def repair(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_sound_store(store: ModelStore) -> None:
    model = packaged(store, "a")
    store.bundle(model.id)
    told: list[tuple[int, int]] = []
    findings = check(store, progress=lambda done, total: told.append((done, total)))
    assert findings.problems == ()
    assert findings.is_sound
    assert findings.blobs_checked == 2
    assert findings.bytes == sum(status.st_size for _, status in store.blobs.all())
    assert told[-1] == (findings.bytes, findings.bytes)


def test_no_store_at_all(store: ModelStore) -> None:
    assert check(store).is_sound


@pytest.mark.parametrize("content", [spoilt(golden.GGUF), golden.GGUF[:-1], b""])
def test_a_wrong_blob(store: ModelStore, content: bytes, repair: bool) -> None:
    model, other = packaged(store, "a"), packaged(store, "b", named("b"))
    store.bundle(model.id)
    overwrite(store.blobs.path(WEIGHTS), content)
    findings = check(store, repair=repair)
    assert kinds(findings)[0] is ProblemKind.BLOB
    assert findings.problems[0].subject == WEIGHTS
    assert [lost.subject for lost in findings.lost] == ["docker.io/ai/a:latest"]
    assert not findings.is_sound
    assert all(problem.repaired is repair for problem in findings.problems)
    assert store.blobs.path(WEIGHTS).exists() is not repair
    assert {m.id for m in store.list()} == ({other.id} if repair else {model.id, other.id})
    if repair:
        assert check(store).problems == ()
        assert packaged(store, "a").id == model.id
        assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF


def test_a_lost_blob_loses_its_model_alone(store: ModelStore, repair: bool) -> None:
    packaged(store, "a"), packaged(store, "b", named("b"))
    store.tag("a", store.reference("c"))
    store.blobs.path(WEIGHTS).unlink()
    findings = check(store, repair=repair)
    assert kinds(findings) == [ProblemKind.MODEL]
    assert findings.problems[0].subject == "docker.io/ai/a:latest, docker.io/ai/c:latest"
    assert len(store.list()) == (1 if repair else 2)


def test_an_edited_link(store: ModelStore, tmp_path: Path, repair: bool) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(golden.GGUF)
    package(store, PackageOrder(store.reference("a"), gguf=path, link=True))
    edited(path)
    findings = check(store, repair=repair)
    assert kinds(findings) == [ProblemKind.LINK, ProblemKind.MODEL]
    assert f"{path} was edited" in findings.problems[0].message
    assert path.read_bytes() == spoilt(golden.GGUF)
    if repair:
        assert check(store).problems == ()
        assert store.blobs.links.all() == {}


def test_an_edit_that_hides_its_time_is_found(store: ModelStore, tmp_path: Path) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(golden.GGUF)
    model = package(store, PackageOrder(store.reference("a"), gguf=path, link=True))
    before = path.stat()
    edited(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    store.bundle(model.id)
    assert kinds(check(store)) == [ProblemKind.LINK, ProblemKind.MODEL]


def test_a_link_that_was_only_touched(store: ModelStore, tmp_path: Path, repair: bool) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(golden.GGUF)
    model = package(store, PackageOrder(store.reference("a"), gguf=path, link=True))
    os.utime(path, (1, 1))
    with pytest.raises(Conflict):
        store.bundle(model.id)
    findings = check(store, repair=repair)
    assert kinds(findings)[0] is ProblemKind.LINK
    if repair:
        assert findings.is_sound
        assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF
        assert store.blobs.links.all()[WEIGHTS].path == str(path)


def test_lost_records_of_links(store: ModelStore, tmp_path: Path, repair: bool) -> None:
    path = tmp_path / "mine.gguf"
    path.write_bytes(golden.GGUF)
    model = package(store, PackageOrder(store.reference("a"), gguf=path, link=True))
    (store.root / "links.json").write_text("{")
    findings = check(store, repair=repair)
    assert kinds(findings) == [ProblemKind.LINK]
    if repair:
        edited(path)
        with pytest.raises(Conflict, match="was edited"):
            store.bundle(model.id)


def test_a_wrong_manifest(store: ModelStore, repair: bool) -> None:
    model = packaged(store, "a")
    overwrite(store.manifests.folder / hex_of(model.id), golden.MANIFEST)
    findings = check(store, repair=repair)
    assert kinds(findings) == [ProblemKind.MANIFEST, ProblemKind.MODEL]
    if repair:
        assert store.list() == ()
        assert packaged(store, "a").id == model.id


def test_a_lost_manifest(store: ModelStore, repair: bool) -> None:
    model = packaged(store, "a")
    store.manifests.remove(model.id)
    assert kinds(check(store, repair=repair)) == [ProblemKind.MODEL]
    assert len(store.list()) == (0 if repair else 1)


@pytest.mark.parametrize("content", ["{", None])
def test_a_list_that_is_lost_comes_back_with_its_names(
    store: ModelStore, content: str | None, repair: bool
) -> None:
    first, second = packaged(store, "a"), packaged(store, "b", named("b"))
    index = store.root / "models.json"
    if content is None:
        index.unlink()
    else:
        index.write_text(content)
    findings = check(store, repair=repair)
    assert kinds(findings) == [ProblemKind.INDEX, ProblemKind.UNLISTED, ProblemKind.UNLISTED]
    if not repair:
        assert not findings.is_sound
        return
    assert findings.is_sound
    assert {m.id: m.tags for m in store.list()} == {
        first.id: ("docker.io/ai/a:latest",),
        second.id: (),  # its name came with the list that was lost
    }
    assert check(store).problems == ()
    assert (store.root / "models.json.unreadable").exists() is (content is not None)


def test_the_names_alone_survive_of_models_that_are_gone(store: ModelStore) -> None:
    packaged(store, "a")
    store.tag("a", store.reference("b"))
    (store.root / "models.json").unlink()
    for path in store.manifests.folder.iterdir():
        path.unlink()
    assert kinds(check(store, repair=True)) == [ProblemKind.INDEX]
    assert store.list() == ()


def test_a_model_that_the_list_forgot(store: ModelStore, repair: bool) -> None:
    """As a program leaves it that is killed between the manifest and the list."""
    model = packaged(store, "a")
    with store.lock.held():
        store.index.write(())
    assert kinds(check(store, repair=repair)) == [ProblemKind.UNLISTED]
    assert [m.id for m in store.list()] == ([model.id] if repair else [])


def test_names_come_back_after_something_else_was_packaged(store: ModelStore) -> None:
    """The list is lost, and another one written: the one before has the names still."""
    first, second = packaged(store, "a"), packaged(store, "b", named("b"))
    store.tag("b", store.reference("c"))
    entries = store.index.entries()
    with store.lock.held():
        store.index.write([replace(entries[0], tags=(*entries[0].tags, "docker.io/ai/b:latest"))])
    assert kinds(check(store, repair=True)) == [ProblemKind.UNLISTED]
    assert {m.id: m.tags for m in store.list()} == {
        first.id: ("docker.io/ai/a:latest", "docker.io/ai/b:latest"),
        second.id: ("docker.io/ai/c:latest",),
    }


def test_a_forgotten_manifest_without_its_files_is_no_model(store: ModelStore) -> None:
    packaged(store, "a")
    with store.lock.held():
        store.index.write(())
    store.blobs.path(WEIGHTS).unlink()
    assert check(store, repair=True).problems == ()
    assert store.list() == ()


def test_an_entry_with_other_particulars(store: ModelStore, repair: bool) -> None:
    model = packaged(store, "a")
    with store.lock.held():
        store.index.write([replace(store.index.entries()[0], size=1, files=())])
    assert kinds(check(store, repair=repair)) == [ProblemKind.ENTRY]
    if repair:
        assert store.list()[0].size == model.size
        store.remove("a")
        assert list(store.blobs.all()) == []


@pytest.mark.parametrize("damage", ["edit", "lose", "replace"])
def test_a_wrong_bundle(store: ModelStore, damage: str, repair: bool) -> None:
    model = packaged(store, "a")
    file = store.bundle(model.id).model_file
    status = file.stat()
    file.unlink()
    if damage != "lose":
        file.write_bytes(golden.GGUF)
    if damage == "replace":  # all but the inode as it was
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        os.link(file, store.root / "other-name")
    findings = check(store, repair=repair)
    assert kinds(findings) == [ProblemKind.BUNDLE]
    if repair:
        assert not file.exists()
        assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF
        assert check(store).is_sound


def test_the_index_of_docker_model_runner_is_filled_up(store: ModelStore) -> None:
    import json

    model = packaged(store, "a")
    index = store.root / "models.json"
    document = json.loads(index.read_text())
    for entry in document["models"]:
        for ours in ("created", "size", "config"):
            del entry[ours]
    index.write_text(json.dumps(document))
    assert kinds(check(store, repair=True)) == [ProblemKind.ENTRY]
    assert store.list()[0].config.quantization == model.config.quantization


def test_a_check_can_be_cancelled(store: ModelStore) -> None:
    packaged(store, "a")
    cancelled = threading.Event()
    with pytest.raises(ShuttingDown):
        check(store, progress=lambda *_: cancelled.set(), cancelled=cancelled)


def test_a_blob_that_came_anew_meanwhile_is_not_removed(
    store: ModelStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was wrong when it was hashed; before the check ends, the right one has come."""
    packaged(store, "a")
    overwrite(store.blobs.path(WEIGHTS), spoilt(golden.GGUF))
    hashing = check_module._Check._hash_all

    def then_heal(self: check_module._Check) -> None:
        hashing(self)
        path = tmp_path / "right.gguf"
        path.write_bytes(golden.GGUF)
        store.blobs.path(WEIGHTS).unlink()
        package_gguf(store, path, store.reference("b"))

    monkeypatch.setattr(check_module._Check, "_hash_all", then_heal)
    assert check(store, repair=True).lost == ()
    assert store.blobs.read(WEIGHTS) == golden.GGUF


def test_memory_is_bounded(store: ModelStore, tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "big"
    with path.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    store.blobs.add_file(path)
    tracemalloc.start()
    check(store)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 1024 * 1024
