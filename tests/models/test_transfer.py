"""Pull and push against a real registry, with oras and crane as independent peers."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
import uuid
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest

from runner.errors import BadInput, BadModelFile, ModelNotFound, ShuttingDown
from runner.models.progress import ProgressEvent, ProgressKind
from runner.models.transfer import pull, push
from runner.registry.client import RegistryClient
from runner.registry.reference import Reference, parse
from runner.settings import Settings
from runner.store.store import ModelStore
from runner.store.stored import StoredModel
from tests.artifacts import golden
from tests.models.packaging import package_gguf
from tests.support.tools import tool
from tests.weights.gguf_bytes import gguf

GOLDEN_ID = "sha256:d4f7858a811ae1dd19e8cedb623cefcbb6ff6ddd51c04a636b4eb089a830c3e7"
CONFIG_TYPE = "application/vnd.docker.ai.model.config.v0.1+json"


@pytest.fixture
def reference(registry: str) -> Reference:
    return parse(f"{registry}/test/{uuid.uuid4().hex}:1")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "golden.gguf").write_bytes(golden.GGUF)
    (folder / "chat.jinja").write_bytes(golden.CHAT_TEMPLATE)
    (folder / "LICENSE").write_bytes(golden.LICENSE)
    return folder


def packaged(store: ModelStore, source: Path, reference: Reference) -> StoredModel:
    return package_gguf(
        store,
        source / "golden.gguf",
        reference,
        context_size=128,
        chat_template=source / "chat.jinja",
        licenses=[source / "LICENSE"],
        created=golden.CREATED,
    )


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def left_behind(store: ModelStore) -> list[Path]:
    return [path for name in ("tmp", "partial") for path in (store.root / name).glob("*")]


def test_what_is_pushed_comes_back(
    store: ModelStore, source: Path, reference: Reference, settings: Settings, tmp_path: Path
) -> None:
    model = packaged(store, source, reference)
    assert push(store, reference.short, settings) == model.id == GOLDEN_ID
    other = ModelStore(tmp_path / "other")
    events: list[ProgressEvent] = []
    pulled = pull(other, reference, settings, events.append)
    assert pulled == model
    assert other.manifest(model.id) == golden.MANIFEST
    assert other.bundle(model.id).model_file.read_bytes() == golden.GGUF
    assert events[-1].kind is ProgressKind.SUCCESS
    assert sum(e.current for e in events if e.current == e.size) == model.size
    assert events[0].document() == {
        "type": "progress",
        "message": "Downloaded: 0.00 MB",
        "total": 394,
        "done": events[0].done,
        "layer": {"id": events[0].layer, "size": 368, "current": events[0].current},
        "mode": "pull",
    }


def test_a_second_pull_fetches_nothing(
    store: ModelStore, source: Path, reference: Reference, settings: Settings
) -> None:
    packaged(store, source, reference)
    push(store, reference, settings)
    events: list[ProgressEvent] = []
    pull(store, reference, settings, events.append)
    assert events[-1].message.endswith("all layers were here")


def test_a_pull_by_digest_gives_no_tag(
    store: ModelStore, source: Path, reference: Reference, settings: Settings, tmp_path: Path
) -> None:
    model = packaged(store, source, reference)
    push(store, reference, settings)
    other = ModelStore(tmp_path / "other")
    assert pull(other, replace(reference, tag="", digest=model.id), settings).tags == ()
    assert other.get(f"{reference.name}@{model.id}").id == model.id


def test_a_push_elsewhere(
    store: ModelStore, source: Path, reference: Reference, settings: Settings, registry: str
) -> None:
    model = packaged(store, source, store.reference("mine"))
    goal = parse(f"{registry}/test/{uuid.uuid4().hex}:2")
    assert push(store, model.short_id, settings, target=goal) == model.id
    with RegistryClient(registry, settings) as client:
        assert client.get_manifest(goal).digest == model.id
    store.tag("mine", reference)
    with pytest.raises(BadInput, match="does not say where"):
        push(store, model.id, settings)
    with pytest.raises(ModelNotFound):
        push(store, "nothing", settings)


def test_a_model_that_is_not_there(
    store: ModelStore, reference: Reference, settings: Settings
) -> None:
    with pytest.raises(ModelNotFound, match="is not at"):
        pull(store, reference, settings)


def test_large_blobs_go_both_ways(
    store: ModelStore, reference: Reference, settings: Settings, tmp_path: Path
) -> None:
    content = gguf(data=hashlib.shake_128(b"seed").digest(9_000_001))
    (tmp_path / "m.gguf").write_bytes(content)
    package_gguf(store, tmp_path / "m.gguf", reference)
    push(store, reference, settings)
    other = ModelStore(tmp_path / "other")
    model = pull(other, reference, settings)
    assert other.bundle(model.id).model_file.read_bytes() == content


def test_two_pulls_at_once(
    store: ModelStore, source: Path, reference: Reference, settings: Settings, tmp_path: Path
) -> None:
    packaged(store, source, reference)
    push(store, reference, settings)
    other = ModelStore(tmp_path / "other")
    pulled: list[StoredModel] = []
    threads = [
        threading.Thread(target=lambda: pulled.append(pull(other, reference, settings)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [model.id for model in pulled] == [GOLDEN_ID] * 4
    assert len(other.list()) == 1
    assert left_behind(other) == []


def test_a_cancelled_pull_leaves_no_name(
    store: ModelStore, reference: Reference, settings: Settings, tmp_path: Path
) -> None:
    (tmp_path / "m.gguf").write_bytes(gguf(data=bytes(5_000_000)))
    package_gguf(store, tmp_path / "m.gguf", reference)
    push(store, reference, settings)
    other = ModelStore(tmp_path / "other")
    cancelled = threading.Event()
    with pytest.raises(ShuttingDown):
        pull(other, reference, settings, lambda _: cancelled.set(), cancelled)
    assert other.list() == ()


def test_oras_reads_what_we_push(
    store: ModelStore, source: Path, reference: Reference, settings: Settings, tmp_path: Path
) -> None:
    packaged(store, source, reference)
    push(store, reference, settings)
    oras = tool("oras")
    manifest = run(oras, "manifest", "fetch", "--plain-http", reference.long, cwd=tmp_path)
    assert manifest.encode() == golden.MANIFEST
    config = run(oras, "manifest", "fetch-config", "--plain-http", reference.long, cwd=tmp_path)
    assert config.encode() == golden.CONFIG
    weights = json.loads(manifest)["layers"][0]["digest"]
    blob = f"{reference.name}@{weights}"
    run(oras, "blob", "fetch", "--plain-http", "--output", "w.gguf", blob, cwd=tmp_path)
    assert (tmp_path / "w.gguf").read_bytes() == golden.GGUF


def test_oras_copies_what_we_push_and_we_read_the_copy(
    store: ModelStore, source: Path, reference: Reference, settings: Settings, tmp_path: Path
) -> None:
    model = packaged(store, source, reference)
    push(store, reference, settings)
    copy = f"{reference.name}-copy:1"
    both = ("--from-plain-http", "--to-plain-http")
    run(tool("oras"), "cp", *both, reference.long, copy, cwd=tmp_path)
    assert pull(ModelStore(tmp_path / "other"), parse(copy), settings).id == model.id


def test_crane_reads_what_we_push(
    store: ModelStore, source: Path, reference: Reference, settings: Settings, tmp_path: Path
) -> None:
    model = packaged(store, source, reference)
    push(store, reference, settings)
    crane = tool("crane")
    assert run(crane, "digest", reference.long, cwd=tmp_path).strip() == model.id
    assert run(crane, "manifest", reference.long, cwd=tmp_path).encode() == golden.MANIFEST
    run(crane, "pull", "--format", "oci", reference.long, "layout", cwd=tmp_path)
    blobs = {path.name: path.read_bytes() for path in (tmp_path / "layout/blobs/sha256").iterdir()}
    assert golden.GGUF in blobs.values()
    assert golden.CONFIG in blobs.values()
    assert all(hashlib.sha256(content).hexdigest() == name for name, content in blobs.items())


def test_an_artifact_made_with_oras_is_read(
    store: ModelStore, source: Path, reference: Reference, settings: Settings
) -> None:
    (source / "config.json").write_bytes(golden.CONFIG)
    files = [
        "golden.gguf:application/vnd.docker.ai.gguf.v3",
        "chat.jinja:application/vnd.docker.ai.chat.template.jinja",
        "LICENSE:application/vnd.docker.ai.license",
    ]
    config = f"config.json:{CONFIG_TYPE}"
    run(
        *(tool("oras"), "push", "--plain-http", "--config", config, reference.long, *files),
        cwd=source,
    )
    model = pull(store, reference, settings)
    assert model.tags == (reference.long,)
    assert model.config.quantization == "F16"
    bundle = store.bundle(model.id)
    assert bundle.model_file.read_bytes() == golden.GGUF
    assert bundle.chat_template is not None
    assert bundle.chat_template.read_bytes() == golden.CHAT_TEMPLATE


def test_a_layout_made_by_hand_and_pushed_with_crane_is_read(
    store: ModelStore, reference: Reference, settings: Settings, tmp_path: Path
) -> None:
    blobs = tmp_path / "layout" / "blobs" / "sha256"
    blobs.mkdir(parents=True)
    parts = (golden.GGUF, golden.CHAT_TEMPLATE, golden.LICENSE, golden.CONFIG, golden.MANIFEST)
    for content in parts:
        (blobs / hashlib.sha256(content).hexdigest()).write_bytes(content)
    (tmp_path / "layout" / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    entry = {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": GOLDEN_ID,
        "size": len(golden.MANIFEST),
    }
    index = {"schemaVersion": 2, "manifests": [entry]}
    (tmp_path / "layout" / "index.json").write_text(json.dumps(index))
    run(tool("crane"), "push", "layout", reference.long, cwd=tmp_path)
    model = pull(store, reference, settings)
    assert model.id == GOLDEN_ID
    assert model.created == golden.CREATED
    assert store.bundle(model.id).model_file.read_bytes() == golden.GGUF


def test_an_image_and_an_index_are_no_models(
    store: ModelStore, source: Path, reference: Reference, settings: Settings
) -> None:
    oras = tool("oras")
    (source / "config.json").write_text("{}")
    config = "config.json:application/vnd.oci.image.config.v1+json"
    pushed = (oras, "push", "--plain-http", "--config", config, reference.long, "LICENSE")
    run(*pushed, cwd=source)
    with pytest.raises(BadModelFile, match="container image"):
        pull(store, reference, settings)
    index = f"{reference.name}:index"
    create = (oras, "manifest", "index", "create", "--plain-http", index)
    run(*create, reference.tag, cwd=source)
    with pytest.raises(BadModelFile, match="container image"):
        pull(store, parse(index), settings)
    run(*pushed[:-2], f"{reference.name}:other", "chat.jinja", cwd=source)
    run(*create, reference.tag, "other", cwd=source)
    with pytest.raises(BadModelFile, match="image index") as caught:
        pull(store, parse(index), settings)
    assert "by digest" in caught.value.hint
    assert store.list() == ()


def test_the_registry_answers(registry: str) -> None:
    host, _, port = registry.partition(":")
    connection = HTTPConnection(host, int(port), timeout=5)
    try:
        connection.request("GET", "/v2/")
        assert connection.getresponse().status == 200
    finally:
        connection.close()
