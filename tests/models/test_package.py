"""Packaging local files."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import BadInput, BadModelFile, Unsupported
from runner.models.package import package_gguf
from runner.models.progress import ProgressEvent, ProgressKind
from runner.models.store import ModelStore
from tests.models import golden
from tests.models.gguf_bytes import LLAMA, U16, gguf


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "golden.gguf").write_bytes(golden.GGUF)
    (folder / "chat.jinja").write_bytes(golden.CHAT_TEMPLATE)
    (folder / "LICENSE").write_bytes(golden.LICENSE)
    return folder


def test_golden(store: ModelStore, source: Path) -> None:
    events: list[ProgressEvent] = []
    model = package_gguf(
        store,
        source / "golden.gguf",
        store.reference("localhost:5000/golden:1"),
        context_size=128,
        chat_template=source / "chat.jinja",
        licenses=[source / "LICENSE"],
        created=golden.CREATED,
        progress=events.append,
    )
    assert model.id == "sha256:d4f7858a811ae1dd19e8cedb623cefcbb6ff6ddd51c04a636b4eb089a830c3e7"
    assert store.manifest(model.id) == golden.MANIFEST
    assert model.created == golden.CREATED
    assert model.size == 394
    assert [(e.layer, e.current, e.total) for e in events[:-1]] == [
        ("golden.gguf", 368, 394),
        ("chat.jinja", 15, 394),
        ("LICENSE", 11, 394),
    ]
    assert events[-1].kind is ProgressKind.SUCCESS


def test_the_same_input_gives_the_same_digest(source: Path, tmp_path: Path) -> None:
    ids = set()
    for name in ("one", "two"):
        store = ModelStore(tmp_path / name)
        (source / "golden.gguf").touch()
        ids.add(package_gguf(store, source / "golden.gguf", store.reference(name)).id)
    assert len(ids) == 1


def test_a_linked_source_is_followed(store: ModelStore, source: Path) -> None:
    (source / "link.gguf").symlink_to(source / "golden.gguf")
    model = package_gguf(store, source / "link.gguf", store.reference("a"))
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF


def test_what_is_no_whole_gguf_is_not_packaged(store: ModelStore, source: Path) -> None:
    (source / "cut.gguf").write_bytes(golden.GGUF[:-1])
    with pytest.raises(BadModelFile, match="cut short"):
        package_gguf(store, source / "cut.gguf", store.reference("a"))
    assert store.list() == ()


def test_a_shard_is_not_packaged_alone(store: ModelStore, source: Path) -> None:
    (source / "s.gguf").write_bytes(gguf({**LLAMA, "split.count": (U16, 3)}))
    with pytest.raises(Unsupported, match="one of 3 shards"):
        package_gguf(store, source / "s.gguf", store.reference("a"))


@pytest.mark.parametrize("name", ["nothing", "."])
def test_files_that_are_none(store: ModelStore, source: Path, name: str) -> None:
    with pytest.raises(BadInput):
        package_gguf(store, source / name, store.reference("a"))
    with pytest.raises(BadInput):
        package_gguf(store, source / "golden.gguf", store.reference("a"), licenses=[source / name])
    assert store.list() == ()
