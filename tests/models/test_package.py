"""Packaging: every kind of source, every mistake, and the same digest for the same input."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import shutil
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from runner.artifacts.artifact import Manifest, parse_manifest
from runner.artifacts.media import Dialect, LayerKind, ModelFormat
from runner.demo import Quantization, gguf_path, huggingface_path
from runner.errors import BadInput, BadModelFile, Conflict, ModelNotFound
from runner.models.package import package
from runner.models.package_order import PackageFormat, PackageOrder
from runner.models.progress import ProgressEvent, ProgressKind, summed
from runner.registry.reference import parse
from runner.store.store import ModelStore
from runner.store.stored import StoredModel
from runner.weights.gguf import read_gguf
from tests.artifacts import golden
from tests.models.artifacts import Artifact, cncf, docker
from tests.store.tars import tar
from tests.weights.gguf_bytes import LLAMA, STRING, U16, Typed, gguf, tensor

NAME = parse("localhost:5000/a:1")
ORDER = PackageOrder(NAME)
PROJECTOR = gguf({"general.architecture": (STRING, "clip")})
ADAPTER: Mapping[str, Typed] = {
    **LLAMA,
    "general.type": (STRING, "adapter"),
    "adapter.type": (STRING, "lora"),
}
BASE_URL = "general.base_model.0.repo_url"
GOLDEN_ID = "sha256:d4f7858a811ae1dd19e8cedb623cefcbb6ff6ddd51c04a636b4eb089a830c3e7"


def written(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    written(folder / "golden.gguf", golden.GGUF)
    written(folder / "chat.jinja", golden.CHAT_TEMPLATE)
    written(folder / "LICENSE", golden.LICENSE)
    written(folder / "mmproj.gguf", PROJECTOR)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The demo model as Hugging Face's tools save it, and what lies about in such folders."""
    path = tmp_path / "hub" / "demo"
    shutil.copytree(huggingface_path(), path)
    written(path / ".git" / "config", "secret")
    written(path / ".hidden", "secret")
    written(path / "README.md", "# demo")
    written(path / "sub" / "notes.txt", "x")
    return path


def manifest_of(store: ModelStore, model: StoredModel) -> Manifest:
    return parse_manifest(store.manifest(model.id))


def layers_of(store: ModelStore, model: StoredModel) -> list[tuple[LayerKind, str]]:
    return [(layer.kind, layer.path) for layer in manifest_of(store, model).layers]


def document_of(store: ModelStore, model: StoredModel) -> dict[str, object]:
    document: dict[str, object] = json.loads(store.manifest(model.id))
    return document


def blobs_of(store: ModelStore) -> set[str]:
    return {path.name for path in (store.root / "blobs" / "sha256").iterdir()}


# GGUF


def test_golden(store: ModelStore, source: Path) -> None:
    events: list[ProgressEvent] = []
    order = replace(
        ORDER,
        gguf=source / "golden.gguf",
        context_size=128,
        chat_template=source / "chat.jinja",
        licenses=(source / "LICENSE",),
        created=golden.CREATED,
    )
    model = package(store, order, events.append)
    assert model.id == GOLDEN_ID
    assert store.manifest(model.id) == golden.MANIFEST
    assert model.created == golden.CREATED
    assert model.size == 394
    assert [(e.layer, e.current, e.total) for e in events[:-1]] == [
        ("golden.gguf", 368, 394),
        ("chat.jinja", 15, 394),
        ("LICENSE", 11, 394),
    ]
    assert events[-1].kind is ProgressKind.SUCCESS


def test_progress_adds_up(store: ModelStore, folder: Path) -> None:
    done: list[int | None] = []
    model = package(store, replace(ORDER, folder=folder), summed(lambda e: done.append(e.done)))
    assert done[-2] == model.size


def test_a_projector_and_several_licences(store: ModelStore, source: Path) -> None:
    other = written(source / "other" / "LICENSE", "other")
    order = replace(
        ORDER,
        gguf=source / "golden.gguf",
        mmproj=source / "mmproj.gguf",
        licenses=(source / "LICENSE", other),
    )
    model = package(store, order)
    assert layers_of(store, model) == [
        (LayerKind.GGUF, "golden.gguf"),
        (LayerKind.MMPROJ, "mmproj.gguf"),
        (LayerKind.LICENSE, "LICENSE"),
        (LayerKind.LICENSE, "LICENSE"),
    ]
    bundle = store.bundle(model.id)
    assert bundle.mmproj is not None
    assert bundle.mmproj.read_bytes() == PROJECTOR
    document = document_of(store, model)
    assert "artifactType" not in document
    assert str(document).count("application/vnd.docker.ai.model.config.v0.1+json") == 1


def test_a_projector_and_a_template_must_be_such(store: ModelStore, source: Path) -> None:
    order = replace(ORDER, gguf=source / "golden.gguf")
    with pytest.raises(BadInput, match=r"golden\.gguf is no projector") as caught:
        package(store, replace(order, mmproj=source / "golden.gguf"))
    assert "--mmproj" in caught.value.hint
    newer = written(source / "p.gguf", gguf({**LLAMA, "general.type": (STRING, "mmproj")}))
    assert package(store, replace(order, mmproj=newer))
    bytes_only = written(source / "x.jinja", b"{{ \xff }}")
    with pytest.raises(BadInput, match="not text in UTF-8") as caught:
        package(store, replace(order, chat_template=bytes_only))
    assert "--chat-template" in caught.value.hint


@pytest.mark.parametrize("what", ["gguf", "lora", "dduf", "safetensors", "folder"])
def test_a_pipe_is_refused(store: ModelStore, tmp_path: Path, what: str) -> None:
    """Nobody writes to it: reading it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    given: dict[str, Any] = {what: tmp_path / "pipe"}
    with pytest.raises(BadInput, match="neither a file nor a folder") as caught:
        package(store, replace(ORDER, **given))
    assert "save what it gives" in caught.value.hint


def test_weights_and_a_projector_of_one_name(store: ModelStore, source: Path) -> None:
    weights, projector = source / "golden.gguf", source / "other" / "golden.gguf"
    written(projector, PROJECTOR)
    bundle = store.bundle(package(store, replace(ORDER, gguf=weights, mmproj=projector)).id)
    assert bundle.mmproj is not None
    assert bundle.mmproj.read_bytes() == PROJECTOR
    assert bundle.model_file.read_bytes() == weights.read_bytes()


def shards(folder: Path, count: int = 3) -> list[Path]:
    names = [folder / f"m-{n + 1:05d}-of-{count:05d}.gguf" for n in range(count)]
    return [
        written(path, gguf({**LLAMA, "split.count": (U16, count), "split.no": (U16, n)}))
        for n, path in enumerate(names)
    ]


@pytest.mark.parametrize("given", [0, 1, 2])
def test_any_shard_finds_all(store: ModelStore, tmp_path: Path, given: int) -> None:
    paths = shards(tmp_path / "s")
    model = package(store, replace(ORDER, gguf=paths[given]))
    assert layers_of(store, model) == [(LayerKind.GGUF, path.name) for path in paths]
    assert model.config.parameters == "24"
    bundle = store.bundle(model.id)
    assert bundle.model_file.name == "model-00001-of-00003.gguf"
    assert bundle.model_file.read_bytes() == paths[0].read_bytes()


def test_a_missing_shard_is_named(store: ModelStore, tmp_path: Path) -> None:
    paths = shards(tmp_path / "s")
    paths[1].unlink()
    with pytest.raises(BadModelFile, match=r"m-00002-of-00003\.gguf is missing"):
        package(store, replace(ORDER, gguf=paths[2]))


def test_gguf_as_modelpack(store: ModelStore, source: Path) -> None:
    order = replace(
        ORDER,
        gguf=source / "golden.gguf",
        mmproj=source / "mmproj.gguf",
        chat_template=source / "chat.jinja",
        licenses=(source / "LICENSE", written(source / "x" / "LICENSE", "x")),
        dialect=PackageFormat.CNCF,
    )
    model = package(store, order)
    manifest = manifest_of(store, model)
    assert manifest.dialect is Dialect.MODELPACK
    assert (
        document_of(store, model)["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    )
    assert layers_of(store, model) == [
        (LayerKind.GGUF, "golden.gguf"),
        (LayerKind.MMPROJ, "mmproj.gguf"),
        (LayerKind.CHAT_TEMPLATE, "chat.jinja"),
        (LayerKind.LICENSE, "LICENSE"),
        (LayerKind.LICENSE, "LICENSE-2"),
    ]
    bundle = store.bundle(model.id)
    assert bundle.model_file.read_bytes() == golden.GGUF
    assert bundle.chat_template == bundle.folder / "chat.jinja"
    with pytest.raises(BadInput, match="context size"):
        package(store, replace(order, context_size=4096))


def test_a_linked_source_is_followed(store: ModelStore, source: Path) -> None:
    (source / "link.gguf").symlink_to(source / "golden.gguf")
    model = package(store, replace(ORDER, gguf=source / "link.gguf"))
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF


def test_relative_paths_and_the_users_folder(
    store: ModelStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(source)
    monkeypatch.setenv("HOME", str(source))
    first = package(store, replace(ORDER, gguf=Path("golden.gguf"), licenses=(Path("./LICENSE"),)))
    order = replace(ORDER, gguf=Path("~/golden.gguf"), licenses=(Path("~/LICENSE"),))
    assert package(store, order).id == first.id


# folders


def test_a_safetensors_folder(store: ModelStore, folder: Path) -> None:
    model = package(store, replace(ORDER, safetensors=folder))
    manifest = manifest_of(store, model)
    assert manifest.dialect is Dialect.DOCKER_V02
    assert layers_of(store, model) == [
        (LayerKind.DOC, "README.md"),
        (LayerKind.FILE, "config.json"),
        (LayerKind.FILE, "generation_config.json"),
        (LayerKind.SAFETENSORS, "model.safetensors"),
        (LayerKind.FILE, "sub/notes.txt"),
        (LayerKind.FILE, "tokenizer.json"),
        (LayerKind.FILE, "tokenizer_config.json"),
    ]
    assert model.config.format is ModelFormat.SAFETENSORS
    assert model.config.architecture
    assert model.config.context_size == 2048
    assert not model.config.pickles
    bundle = store.bundle(model.id)
    assert bundle.model_file == bundle.folder / "model.safetensors"
    assert (bundle.folder / "sub/notes.txt").read_text() == "x"
    assert not (bundle.folder / ".hidden").exists()
    assert not (bundle.folder / ".git").exists()


def test_a_folder_gets_its_template_under_the_name_that_engines_know(
    store: ModelStore, folder: Path, source: Path
) -> None:
    written(folder / "chat_template.jinja", "old")
    written(folder / "sub" / "chat_template.jinja", "a part's own")
    written(folder / "LICENSE", "the folder's")
    order = replace(
        ORDER,
        safetensors=folder,
        chat_template=source / "chat.jinja",
        licenses=(source / "LICENSE",),
        context_size=77,
    )
    model = package(store, order)
    assert model.config.context_size == 77
    bundle = store.bundle(model.id)
    assert bundle.chat_template == bundle.folder / "chat_template.jinja"
    assert bundle.chat_template.read_bytes() == golden.CHAT_TEMPLATE
    assert (bundle.folder / "sub/chat_template.jinja").read_text() == "a part's own"
    assert (bundle.folder / "LICENSE").read_text() == "the folder's"
    assert (bundle.folder / "LICENSE-2").read_bytes() == golden.LICENSE


def test_a_folder_as_modelpack_leaves_its_own_context_out(store: ModelStore, folder: Path) -> None:
    model = package(store, replace(ORDER, safetensors=folder, dialect=PackageFormat.CNCF))
    assert manifest_of(store, model).dialect is Dialect.MODELPACK
    bundle = store.bundle(model.id)
    assert bundle.format is ModelFormat.SAFETENSORS
    assert (bundle.folder / "sub/notes.txt").read_text() == "x"


def test_a_safetensors_file_alone(store: ModelStore, folder: Path) -> None:
    model = package(store, replace(ORDER, safetensors=folder / "model.safetensors"))
    assert manifest_of(store, model).dialect is Dialect.DOCKER_V01
    assert layers_of(store, model) == [(LayerKind.SAFETENSORS, "model.safetensors")]
    assert model.config.format is ModelFormat.SAFETENSORS
    assert store.bundle(model.id).model_file.name == "model.safetensors"


def test_pickles_are_flagged(store: ModelStore, tmp_path: Path) -> None:
    path = tmp_path / "torch"
    written(path / "config.json", '{"architectures": ["X"], "max_position_embeddings": 9}')
    written(path / "pytorch_model.bin", pickle.dumps({"w": [1.0]}))
    model = package(store, replace(ORDER, folder=path))
    assert model.config.pickles
    assert model.config.format is ModelFormat.PYTORCH
    assert store.get(NAME).config.pickles
    assert store.bundle(model.id).pickles
    as_modelpack = package(store, replace(ORDER, folder=path, dialect=PackageFormat.CNCF))
    assert as_modelpack.config.pickles
    assert store.get(as_modelpack.id).config.pickles


def test_a_folder_with_a_gguf(store: ModelStore, source: Path) -> None:
    model = package(store, replace(ORDER, folder=source))
    assert model.config.format is ModelFormat.GGUF
    assert manifest_of(store, model).dialect is Dialect.DOCKER_V02
    bundle = store.bundle(model.id)
    assert bundle.model_file == bundle.folder / "golden.gguf"
    assert bundle.mmproj == bundle.folder / "mmproj.gguf"


def dduf(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("model_index.json", '{"_class_name": "X"}')
        archive.writestr("unet/config.json", "{}")
        archive.writestr("unet/model.safetensors", b"\x02" + bytes(7) + b"{}")
    return path


def test_a_dduf(store: ModelStore, tmp_path: Path) -> None:
    path = dduf(tmp_path / "flux.dduf")
    model = package(store, replace(ORDER, dduf=path))
    assert manifest_of(store, model).dialect is Dialect.DOCKER_V01
    assert layers_of(store, model) == [(LayerKind.DDUF, "flux.dduf")]
    bundle = store.bundle(model.id)
    assert (bundle.format, bundle.model_file.name) == (ModelFormat.DDUF, "flux.dduf")


# adapters


def test_an_adapter_names_its_base(store: ModelStore, tmp_path: Path) -> None:
    page = "https://huggingface.co/Meta/Llama-3"
    path = written(tmp_path / "l.gguf", gguf({**ADAPTER, BASE_URL: (STRING, page)}))
    model = package(store, replace(ORDER, lora=path))
    manifest = manifest_of(store, model)
    assert manifest.dialect is Dialect.DOCKER_V01
    assert layers_of(store, model) == [(LayerKind.LORA, "l.gguf")]
    assert model.config.base == "huggingface.co/Meta/Llama-3:latest"
    assert manifest.annotations == {
        "org.opencontainers.image.base.name": "huggingface.co/Meta/Llama-3:latest"
    }
    assert store.get(NAME).config.base == model.config.base


def test_the_users_word_on_the_base_counts(store: ModelStore, tmp_path: Path, source: Path) -> None:
    base = package(store, replace(ORDER, reference=parse("base"), gguf=source / "golden.gguf"))
    page = "https://huggingface.co/Meta/Llama-3"
    path = written(tmp_path / "l.gguf", gguf({**ADAPTER, BASE_URL: (STRING, page)}))
    expected = {
        "org.opencontainers.image.base.name": "docker.io/ai/base:latest",
        "org.opencontainers.image.base.digest": base.id,
    }
    for name in ("base", base.id, base.short_id):
        model = package(store, replace(ORDER, lora=path, base=name))
        assert manifest_of(store, model).annotations == expected
    elsewhere = package(store, replace(ORDER, lora=path, base="other/base:2"))
    assert elsewhere.config.base == "docker.io/other/base:2"


@pytest.mark.parametrize("name", ["Meta/Llama-3", "https://huggingface.co/Meta/Llama-3/"])
def test_an_adapters_folder(store: ModelStore, tmp_path: Path, name: str) -> None:
    path = adapter_folder(tmp_path / "lora", name)
    model = package(store, replace(ORDER, lora=path))
    assert manifest_of(store, model).dialect is Dialect.DOCKER_V02
    assert model.config.base == "huggingface.co/Meta/Llama-3:latest"
    assert layers_of(store, model) == [
        (LayerKind.FILE, "adapter_config.json"),
        (LayerKind.SAFETENSORS, "adapter_model.safetensors"),
    ]


def adapter_folder(path: Path, base: str | None) -> Path:
    config = {"peft_type": "LORA"} | ({"base_model_name_or_path": base} if base else {})
    written(path / "adapter_config.json", json.dumps(config))
    shutil.copyfile(huggingface_path() / "model.safetensors", path / "adapter_model.safetensors")
    return path


@pytest.mark.parametrize("name", ["", "/home/me/llama", "../llama", "https://example.com"])
def test_an_adapter_without_a_usable_base(store: ModelStore, tmp_path: Path, name: str) -> None:
    path = adapter_folder(tmp_path / "lora", name)
    with pytest.raises(BadInput) as caught:
        package(store, replace(ORDER, lora=path))
    assert "--base" in caught.value.hint
    model = package(store, replace(ORDER, lora=path, base="hf.co/Meta/Llama-3"))
    assert model.config.base == "huggingface.co/Meta/Llama-3:latest"


def test_an_unusable_word_on_the_base(store: ModelStore, tmp_path: Path) -> None:
    path = adapter_folder(tmp_path / "lora", "Meta/Llama-3")
    with pytest.raises(BadInput, match="named, not a file"):
        package(store, replace(ORDER, lora=path, base="./base.gguf"))
    with pytest.raises(ModelNotFound):
        package(store, replace(ORDER, lora=path, base="0123456789ab"))


def test_modelpack_has_no_word_for_adapters(store: ModelStore, tmp_path: Path) -> None:
    path = adapter_folder(tmp_path / "lora", "Meta/Llama-3")
    with pytest.raises(BadInput, match="adapters"):
        package(store, replace(ORDER, lora=path, dialect=PackageFormat.CNCF))


# models of the store


@pytest.fixture
def stored(store: ModelStore, source: Path) -> StoredModel:
    order = PackageOrder(
        store.reference("old"),
        gguf=source / "golden.gguf",
        chat_template=source / "chat.jinja",
        licenses=(source / "LICENSE",),
        context_size=128,
    )
    return package(store, order)


FROM = replace(ORDER, from_model="old")


@pytest.fixture
def no_copies(store: ModelStore, stored: StoredModel) -> Iterator[None]:
    """Repackaging may add files that it is given, and documents; it never writes a weight."""
    weights = store.blobs.path(manifest_of(store, stored).layers[0].digest)
    before = weights.stat()
    yield
    after = weights.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def added(store: ModelStore, make: Callable[[], StoredModel]) -> tuple[StoredModel, int]:
    """What was made, and how many blobs it took beside its config."""
    before = blobs_of(store)
    model = make()
    return model, len(blobs_of(store) - before) - 1


@pytest.mark.usefixtures("no_copies")
def test_another_context_size(store: ModelStore, stored: StoredModel) -> None:
    model, blobs = added(store, lambda: package(store, replace(FROM, context_size=64)))
    assert blobs == 0
    assert model.config == structs.replace(stored.config, context_size=64)
    assert manifest_of(store, model).layers == manifest_of(store, stored).layers
    assert store.get("old").config.context_size == 128


def test_a_model_keeps_its_age(store: ModelStore, source: Path) -> None:
    order = replace(ORDER, gguf=source / "golden.gguf", created=golden.CREATED)
    package(store, replace(order, reference=store.reference("old")))
    assert package(store, replace(FROM, context_size=64)).created == golden.CREATED
    assert package(store, replace(FROM, created=5)).created == 5


@pytest.mark.usefixtures("no_copies")
def test_another_template_projector_and_licence(
    store: ModelStore, stored: StoredModel, source: Path
) -> None:
    order = replace(
        FROM,
        chat_template=written(source / "new.jinja", "new"),
        mmproj=source / "mmproj.gguf",
        licenses=(written(source / "NOTICE", "notice"),),
    )
    model, blobs = added(store, lambda: package(store, order))
    assert blobs == 3
    assert layers_of(store, model) == [
        (LayerKind.GGUF, "golden.gguf"),
        (LayerKind.LICENSE, "LICENSE"),
        (LayerKind.MMPROJ, "mmproj.gguf"),
        (LayerKind.CHAT_TEMPLATE, "new.jinja"),
        (LayerKind.LICENSE, "NOTICE"),
    ]
    assert model.config == stored.config


@pytest.mark.usefixtures("no_copies")
def test_there_and_back_between_docker_and_modelpack(
    store: ModelStore, stored: StoredModel
) -> None:
    there = replace(FROM, dialect=PackageFormat.CNCF)
    model, blobs = added(store, lambda: package(store, there))
    assert blobs == 0
    assert manifest_of(store, model).dialect is Dialect.MODELPACK
    assert layers_of(store, model) == layers_of(store, stored)
    back = PackageOrder(
        store.reference("back"),
        from_model=model.id,
        dialect=PackageFormat.DOCKER,
        context_size=128,
    )
    again, blobs = added(store, lambda: package(store, back))
    assert blobs == -1, "even the config is the one that was there"
    assert again.id == stored.id


@pytest.mark.parametrize("dialect", PackageFormat)
def test_a_folder_there_and_back(store: ModelStore, folder: Path, dialect: PackageFormat) -> None:
    first = package(store, replace(ORDER, safetensors=folder, dialect=dialect))
    other = PackageFormat.CNCF if dialect is PackageFormat.DOCKER else PackageFormat.DOCKER
    there = PackageOrder(store.reference("there"), from_model=first.id, dialect=other)
    back = PackageOrder(store.reference("back"), from_model="there", dialect=dialect)
    assert manifest_of(store, package(store, there)).dialect is not None
    assert package(store, back).id == first.id


@pytest.mark.usefixtures("no_copies")
def test_another_name_alone_is_the_same_model(store: ModelStore, stored: StoredModel) -> None:
    for dialect in (None, PackageFormat.DOCKER):
        model = package(store, replace(FROM, dialect=dialect))
        assert model.id == stored.id
    assert NAME.long in store.get("old").tags


def test_layers_that_have_no_names(store: ModelStore) -> None:
    """As the oldest models on Docker Hub are."""
    parts = [
        docker("gguf.v3", golden.GGUF),
        docker("license", b"one"),
        docker("license", b"two"),
        docker("chat.template.jinja", b"{{ m }}"),
    ]
    Artifact(Dialect.DOCKER_V01, parts).enter(store, "old")
    model = package(store, replace(FROM, dialect=PackageFormat.CNCF))
    assert layers_of(store, model) == [
        (LayerKind.GGUF, "model.gguf"),
        (LayerKind.LICENSE, "LICENSE"),
        (LayerKind.LICENSE, "LICENSE-2"),
        (LayerKind.CHAT_TEMPLATE, "template.jinja"),
    ]
    weights = [cncf("weight.v1.raw", golden.GGUF)]
    Artifact(Dialect.MODELPACK, weights).enter(store, "nameless")
    named = package(store, replace(ORDER, from_model="nameless", dialect=PackageFormat.DOCKER))
    assert layers_of(store, named) == [(LayerKind.GGUF, "model.gguf")]
    assert named.config.quantization == "F16"
    assert named.config.metadata["llama.context_length"] == "256"


def test_archives_are_not_packaged_anew(store: ModelStore) -> None:
    parts = [docker("gguf.v3", golden.GGUF), docker("dir.tar", tar(("a", b"1")))]
    Artifact(Dialect.DOCKER_V01, parts).enter(store, "old")
    with pytest.raises(BadInput, match="old holds archives"):
        package(store, replace(FROM, context_size=64))


def test_a_model_that_is_not_there(store: ModelStore) -> None:
    with pytest.raises(ModelNotFound):
        package(store, replace(ORDER, from_model="nothing"))


def test_a_projector_for_what_has_none(store: ModelStore, folder: Path, source: Path) -> None:
    package(store, PackageOrder(store.reference("old"), safetensors=folder))
    for order in (FROM, replace(ORDER, folder=folder)):
        with pytest.raises(BadInput, match="this one is safetensors"):
            package(store, replace(order, mmproj=source / "mmproj.gguf"))


# the same input, links, other processes


def test_the_same_input_gives_the_same_digest(source: Path, folder: Path, tmp_path: Path) -> None:
    """Whatever the times, modes and places of the files are."""
    ids: list[set[str]] = [set(), set(), set()]
    for number in (1, 2):
        store = ModelStore(tmp_path / f"store-{number}")
        copy = tmp_path / f"copy-{number}"
        shutil.copytree(folder, copy)
        for path in copy.rglob("*.json"):
            os.utime(path, (number, number))
            path.chmod(0o600 + number * 0o44)
        (source / "golden.gguf").touch()
        for place, order in enumerate(
            (
                replace(ORDER, gguf=source / "golden.gguf"),
                replace(ORDER, safetensors=copy),
                replace(ORDER, folder=copy, dialect=PackageFormat.CNCF),
            )
        ):
            ids[place].add(package(store, order).id)
            assert package(store, order).id in ids[place]
    assert [len(found) for found in ids] == [1, 1, 1]


def test_weights_are_linked_and_texts_are_not(store: ModelStore, source: Path) -> None:
    order = replace(
        ORDER,
        gguf=source / "golden.gguf",
        mmproj=source / "mmproj.gguf",
        chat_template=source / "chat.jinja",
        link=True,
    )
    model = package(store, order)
    weights, projector, template = manifest_of(store, model).layers
    for layer, name in ((weights, "golden.gguf"), (projector, "mmproj.gguf")):
        assert (source / name).samefile(store.blobs.path(layer.digest))
    assert not (source / "chat.jinja").samefile(store.blobs.path(template.digest))
    (source / "chat.jinja").write_text("edited")
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF
    (source / "golden.gguf").chmod(0o644)
    (source / "golden.gguf").write_bytes(golden.GGUF[:-1] + b"X")
    with pytest.raises(Conflict, match="was edited"):
        store.bundle(model.id)


def test_a_file_that_another_process_removes_is_added_again(
    store: ModelStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one removes a model that shares the file, just before ours is entered."""
    package(store, PackageOrder(store.reference("shared"), gguf=source / "golden.gguf"))
    other = ModelStore(store.root)
    commit, times = store.commit, 0

    def late(*arguments: object) -> StoredModel:
        nonlocal times
        times += 1
        if times == 1:
            other.remove("shared")
        return commit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store, "commit", late)
    model = package(store, replace(ORDER, gguf=source / "golden.gguf", context_size=9))
    assert times == 2
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF


def test_nobody_can_keep_a_model_out(
    store: ModelStore, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one removes the file as often as it can: until the store is ours alone."""
    package(store, PackageOrder(store.reference("shared"), gguf=source / "golden.gguf"))
    other = ModelStore(store.root)
    commit, adding = store.commit, type(store.blobs).add_file
    locked: list[bool] = []

    def add_file(self: object, *arguments: object, **named: object) -> object:
        locked.append(is_locked(store.root / "lock"))
        return adding(self, *arguments, **named)  # type: ignore[arg-type]

    def late(*arguments: object) -> StoredModel:
        if not locked[-1]:
            package(other, PackageOrder(store.reference("shared"), gguf=source / "golden.gguf"))
            other.remove("shared")
        return commit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(type(store.blobs), "add_file", add_file)
    monkeypatch.setattr(store, "commit", late)
    model = package(store, replace(ORDER, gguf=source / "golden.gguf", context_size=9))
    assert locked[-1]
    assert not is_locked(store.root / "lock")
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF


def is_locked(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_removing_while_packaging(store: ModelStore, source: Path) -> None:
    """Two that fight over one blob: neither ever leaves a name without its bytes."""
    stop = threading.Event()

    def fight() -> None:
        other = ModelStore(store.root)
        name = other.reference("other")
        while not stop.is_set():
            package(other, PackageOrder(name, gguf=source / "golden.gguf", context_size=5))
            other.remove("other")

    thread = threading.Thread(target=fight)
    thread.start()
    try:
        for size in range(10, 30):
            model = package(store, replace(ORDER, gguf=source / "golden.gguf", context_size=size))
            assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF
            store.remove(NAME)
    finally:
        stop.set()
        thread.join(timeout=60)


def test_each_file_is_read_once(
    store: ModelStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    adding = type(store.blobs).add_file

    def add_file(self: object, source: Path, *rest: object, **named: object) -> object:
        hashed.append(source.name)
        return adding(self, source, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(type(store.blobs), "add_file", add_file)
    package(store, replace(ORDER, safetensors=folder))
    assert len(hashed) == len(set(hashed)) == 7


# what can't be packaged


def test_one_source_exactly(store: ModelStore, source: Path) -> None:
    with pytest.raises(BadInput, match="nothing says") as caught:
        package(store, ORDER)
    assert "--gguf" in caught.value.hint
    with pytest.raises(BadInput, match="only one model"):
        package(store, replace(ORDER, gguf=source / "golden.gguf", from_model="old"))


def test_an_adapters_base_is_not_what_it_is_packaged_from(store: ModelStore, source: Path) -> None:
    with pytest.raises(BadInput, match="an adapter") as caught:
        package(store, replace(ORDER, lora=source / "golden.gguf", from_model="old"))
    assert "--base old" in caught.value.hint


def test_a_projector_belongs_to_a_gguf(store: ModelStore, source: Path, folder: Path) -> None:
    order = replace(ORDER, mmproj=source / "mmproj.gguf")
    for other in (
        replace(order, safetensors=folder),
        replace(order, dduf=folder),
        replace(order, lora=folder),
    ):
        with pytest.raises(BadInput, match="belongs to a GGUF model"):
            package(store, other)


def test_orders_that_cant_be(store: ModelStore, source: Path) -> None:
    order = replace(ORDER, gguf=source / "golden.gguf")
    pinned = parse(f"a@sha256:{'0' * 64}")
    for change, message in (
        (replace(order, reference=pinned), "digest is not known"),
        (replace(order, base="ai/x"), "only an adapter"),
        (replace(order, context_size=0), "out of range"),
        (replace(order, context_size=2**31), "out of range"),
    ):
        with pytest.raises(BadInput, match=message):
            package(store, change)
    assert store.list() == ()
    assert not store.root.exists()


@pytest.mark.parametrize("name", ["nothing", "."])
@pytest.mark.parametrize("kind", ["gguf", "dduf", "mmproj", "chat_template", "license"])
def test_files_that_are_none(store: ModelStore, source: Path, name: str, kind: str) -> None:
    path = source / name
    order = replace(ORDER, gguf=source / "golden.gguf")
    orders = {
        "gguf": replace(ORDER, gguf=path),
        "dduf": replace(ORDER, dduf=path),
        "mmproj": replace(order, mmproj=path),
        "chat_template": replace(order, chat_template=path),
        "license": replace(order, licenses=(path,)),
    }
    with pytest.raises(BadInput):
        package(store, orders[kind])
    assert store.list() == ()


def test_folders_that_are_none(store: ModelStore, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    written(tmp_path / "text" / "README.md", "no weights")
    for path in (empty, tmp_path / "text", tmp_path / "nothing"):
        for order in (
            replace(ORDER, safetensors=path),
            replace(ORDER, folder=path),
            replace(ORDER, lora=path),
        ):
            with pytest.raises(BadInput):
                package(store, order)
    assert store.list() == ()


def test_a_folder_without_safetensors_says_so(store: ModelStore, source: Path) -> None:
    with pytest.raises(BadInput, match="holds no safetensors") as caught:
        package(store, replace(ORDER, safetensors=source))
    assert "--dir" in caught.value.hint


def test_a_folder_with_both(store: ModelStore, folder: Path) -> None:
    written(folder / "x.gguf", golden.GGUF)
    with pytest.raises(BadInput, match="GGUF files beside"):
        package(store, replace(ORDER, safetensors=folder))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (golden.GGUF[:-1], "cut short"),
        (b"tjgg" + bytes(100), "GGJT file, the format before GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!doctype html>", "web page"),
        (b"", "is empty"),
    ],
)
def test_what_is_no_gguf(store: ModelStore, tmp_path: Path, content: bytes, message: str) -> None:
    path = written(tmp_path / "m.gguf", content)
    for order in (replace(ORDER, gguf=path), replace(ORDER, lora=path)):
        with pytest.raises(BadModelFile, match=message):
            package(store, order)
    assert store.list() == ()


def test_parts_are_not_taken_for_models(store: ModelStore, source: Path) -> None:
    adapter = written(source / "lora.gguf", gguf(ADAPTER))
    for order, hint in (
        (replace(ORDER, gguf=adapter), "--lora"),
        (replace(ORDER, gguf=source / "mmproj.gguf"), "--mmproj"),
        (replace(ORDER, lora=source / "golden.gguf"), "--gguf"),
    ):
        with pytest.raises(BadInput) as caught:
            package(store, order)
        assert hint in caught.value.hint


def test_a_text_that_is_none(store: ModelStore, source: Path) -> None:
    large = source / "large.jinja"
    with large.open("wb") as file:
        file.truncate(16 * 1024 * 1024 + 1)
    with pytest.raises(BadInput, match="larger than 16 MiB"):
        package(store, replace(ORDER, gguf=source / "golden.gguf", chat_template=large))


def test_what_cant_be_written_is_said_before_anything_is_read(
    store: ModelStore, folder: Path
) -> None:
    def never(event: ProgressEvent) -> None:
        raise AssertionError(event)

    order = replace(ORDER, safetensors=folder, dialect=PackageFormat.CNCF, context_size=64)
    with pytest.raises(BadInput, match="context size"):
        package(store, order, never)


# the demo model, every way


@pytest.mark.parametrize("dialect", PackageFormat)
@pytest.mark.parametrize("quantization", Quantization)
def test_the_demo_model(
    store: ModelStore, dialect: PackageFormat, quantization: Quantization
) -> None:
    model = package(store, replace(ORDER, gguf=gguf_path(quantization), dialect=dialect))
    bundle = store.bundle(model.id)
    assert bundle.format is ModelFormat.GGUF
    assert read_gguf(bundle.model_file).context_length == 2048
    assert bundle.model_file.read_bytes() == gguf_path(quantization).read_bytes()
    assert model.config.quantization == quantization.name


def test_tensors_of_all_shards_count(store: ModelStore, tmp_path: Path) -> None:
    head = {**LLAMA, "split.count": (U16, 2), "split.no": (U16, 0)}
    second = {**LLAMA, "split.count": (U16, 2), "split.no": (U16, 1)}
    written(tmp_path / "m-00001-of-00002.gguf", gguf(head, (), b""))
    weights = (tensor("a", (64, 2), 1, 0),)
    written(tmp_path / "m-00002-of-00002.gguf", gguf(second, weights, bytes(256)))
    model = package(store, replace(ORDER, gguf=tmp_path / "m-00001-of-00002.gguf"))
    assert model.config.parameters == "128"
