"""All that is known of a model, in the store and at its registry."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import (
    BadModelFile,
    CorruptTransfer,
    ModelNotFound,
    RegistryError,
    RegistryUnauthorized,
)
from runner.models.inspection import inspect_local, inspect_remote
from runner.models.package import package
from runner.models.package_order import PackageFormat, PackageOrder
from runner.models.transfer import push
from runner.registry.http import MAX_RETRIES
from runner.registry.reference import Reference, parse
from runner.settings import Settings
from runner.store.store import ModelStore
from tests.artifacts import golden
from tests.hubs.server import MODIFIED_SECONDS, Hub, commit_of, running
from tests.models.packaging import package_gguf
from tests.models.pulling import authorized
from tests.registry import faults
from tests.registry.server import Registry


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def safetensors(**tensors: tuple[str, list[int], int]) -> bytes:
    header, end = {}, 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    content = json.dumps(header).encode()
    return struct.pack("<Q", len(content)) + content + bytes(end)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "golden.gguf").write_bytes(golden.GGUF)
    (tmp_path / "chat.jinja").write_bytes(golden.CHAT_TEMPLATE)
    (tmp_path / "LICENSE").write_bytes(golden.LICENSE)
    return tmp_path


def test_a_gguf_model(store: ModelStore, source: Path) -> None:
    model = package_gguf(
        store,
        source / "golden.gguf",
        store.reference("localhost:5000/golden:1"),
        context_size=128,
        chat_template=source / "chat.jinja",
        licenses=[source / "LICENSE"],
        created=golden.CREATED,
    )
    store.tag(model.id, store.reference("golden"))
    found = inspect_local(store, "golden")
    assert json.loads(json.dumps(found)) == found
    assert found["id"] == sha256(golden.MANIFEST)
    assert found["created"] == golden.CREATED
    assert found["tags"] == [
        "localhost:5000/golden:1",
        "docker.io/ai/golden:latest",
        "ai/golden",
        "ai/golden:latest",
    ]
    assert found["dialect"] == "docker v0.1"
    assert found["size"] == model.size
    config = found["config"]
    assert isinstance(config, dict)
    assert config["gguf"]["llama.context_length"] == "256"
    assert config["context_size"] == 128
    assert found["layers"] == [
        _layer("gguf", "golden.gguf", "application/vnd.docker.ai.gguf.v3", golden.GGUF),
        _layer(
            "chat-template",
            "chat.jinja",
            "application/vnd.docker.ai.chat.template.jinja",
            golden.CHAT_TEMPLATE,
        ),
        _layer("license", "LICENSE", "application/vnd.docker.ai.license", golden.LICENSE),
    ]
    assert found["weights"] == {
        "architecture": "llama",
        "quantization": "F16",
        "context_length": 256,
        "parameters": 8,
        "tensors": 1,
        "types": {"F16": {"tensors": 1, "bytes": 16}},
    }
    assert found["pickles"] is False
    assert {"linked", "problems"}.isdisjoint(found)


def _layer(kind: str, path: str, media_type: str, content: bytes) -> dict[str, object]:
    return {
        "kind": kind,
        "path": path,
        "media_type": media_type,
        "packing": "raw",
        "size": len(content),
        "digest": sha256(content),
    }


@pytest.mark.parametrize(
    ("dialect", "told"), [(PackageFormat.DOCKER, "docker v0.2"), (PackageFormat.CNCF, "modelpack")]
)
def test_safetensors_of_several_files(
    store: ModelStore, tmp_path: Path, dialect: PackageFormat, told: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    first = safetensors(a=("F32", [2, 2], 16), b=("BF16", [4], 8))
    (folder / "model-00001-of-00002.safetensors").write_bytes(first)
    second = safetensors(c=("BF16", [2], 4))
    (folder / "model-00002-of-00002.safetensors").write_bytes(second)
    (folder / "config.json").write_text('{"architectures":["X"],"max_position_embeddings":512}')
    package(store, PackageOrder(parse("st"), safetensors=folder, dialect=dialect))
    found = inspect_local(store, "st")
    assert found["dialect"] == told
    assert found["weights"] == {
        "parameters": 10,
        "tensors": 3,
        "types": {
            "BF16": {"tensors": 2, "bytes": 12},
            "F32": {"tensors": 1, "bytes": 16},
        },
    }


def test_a_linked_and_edited_file_is_told(store: ModelStore, source: Path) -> None:
    path = source / "golden.gguf"
    package(store, PackageOrder(parse("a"), gguf=path, link=True))
    assert inspect_local(store, "a")["linked"] == {sha256(golden.GGUF): str(path)}
    path.chmod(0o644)
    path.write_bytes(golden.GGUF[:-1])
    found = inspect_local(store, "a")
    assert found["problems"] == [f"golden.gguf: {path} was edited after it was packaged"]
    assert "weights" not in found


def test_a_lost_file_is_told(store: ModelStore, source: Path) -> None:
    package_gguf(store, source / "golden.gguf", parse("a"))
    store.blobs.path(sha256(golden.GGUF)).unlink()
    problems = inspect_local(store, "a")["problems"]
    assert isinstance(problems, list)
    assert ["missing in the store" in problem for problem in problems] == [True]


def test_no_such_model(store: ModelStore) -> None:
    with pytest.raises(ModelNotFound):
        inspect_local(store, "nothing")


def test_at_its_registry(
    store: ModelStore, source: Path, registry: str, settings: Settings
) -> None:
    """The same as here, but for what only the weights say."""
    reference = parse(f"{registry}/inspected/golden:1")
    package_gguf(store, source / "golden.gguf", reference, created=golden.CREATED)
    push(store, reference, settings)
    local = inspect_local(store, reference.long)
    remote = inspect_remote(store, reference, settings)
    assert remote == {key: value for key, value in local.items() if key != "weights"}
    pinned = parse(f"{registry}/inspected/golden@{local['id']}")
    assert inspect_remote(store, pinned, settings)["tags"] == []
    with pytest.raises(ModelNotFound):
        inspect_remote(store, parse(f"{registry}/inspected/nothing"), settings)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "MODELSCOPE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))
    with running(Hub()) as serving:
        yield serving


def asked(hub: Hub, store: ModelStore, name: str) -> dict[str, object]:
    settings = Settings(hub_endpoint=hub.endpoint, modelscope_endpoint=hub.endpoint)
    return inspect_remote(store, parse(name), settings)


def test_at_a_hub(store: ModelStore, hub: Hub) -> None:
    """What a pull would choose, and none of its files is read."""
    files = {"a-Q8_0.gguf": b"other", "a-Q4_K_M.gguf": golden.GGUF, "LICENSE": golden.LICENSE}
    hub.add("Org/A-GGUF", files)
    found = asked(hub, store, "hf.co/Org/A-GGUF")
    assert found == {
        "name": "hf.co/Org/A-GGUF",
        "page": f"{hub.endpoint}/Org/A-GGUF",
        "commit": commit_of("Org/A-GGUF"),
        "modified": MODIFIED_SECONDS,
        "format": "gguf",
        "size": len(golden.GGUF) + len(golden.LICENSE),
        "files": [
            {
                "kind": "gguf",
                "path": "a-Q4_K_M.gguf",
                "size": len(golden.GGUF),
                "digest": sha256(golden.GGUF),
            },
            {"kind": "license", "path": "LICENSE", "size": len(golden.LICENSE)},
        ],
    }
    assert json.loads(json.dumps(found)) == found
    assert hub.seen("resolve") == []
    assert not store.list()
    assert asked(hub, store, "hf.co/Org/A-GGUF:Q8_0")["size"] == 5 + len(golden.LICENSE)
    with pytest.raises(ModelNotFound, match="has no Q2_K"):
        asked(hub, store, "hf.co/Org/A-GGUF:Q2_K")
    with pytest.raises(RegistryUnauthorized, match="does not exist, or is private"):
        asked(hub, store, "hf.co/Org/Nothing")


def test_a_folder_at_modelscope(store: ModelStore, hub: Hub) -> None:
    weights = safetensors(a=("F32", [1], 4))
    hub.add("Org/B", {"model.safetensors": weights, "config.json": b"{}", "sub/x.json": b"{}"})
    found = asked(hub, store, "ms://Org/B")
    assert (found["name"], found["format"]) == ("ms://Org/B", "safetensors")
    assert found["size"] == len(weights) + 4
    files = found["files"]
    assert isinstance(files, list)
    assert [file["path"] for file in files] == ["config.json", "model.safetensors", "sub/x.json"]


CONFIG = f"GET .*/blobs/{sha256(golden.CONFIG)}"


@pytest.fixture
def served(server: Registry, reference: Reference) -> Reference:
    """A model at a registry that may lose or change its config."""
    server.manifests["a/b/1"] = golden.MANIFEST
    server.add_blob(golden.CONFIG)
    return reference


@pytest.mark.parametrize(
    ("config", "error", "message"),
    [
        (b"{}", CorruptTransfer, "other bytes"),
        (golden.CONFIG + b" ", CorruptTransfer, "other bytes"),
        (golden.CONFIG[:-1], CorruptTransfer, "other bytes"),
        (golden.CONFIG + b" " * 5 * 1024 * 1024, BadModelFile, "larger than"),
    ],
)
def test_a_config_that_is_another(
    store: ModelStore,
    settings: Settings,
    server: Registry,
    served: Reference,
    config: bytes,
    error: type[Exception],
    message: str,
) -> None:
    server.blobs[sha256(golden.CONFIG)] = config
    with pytest.raises(error, match=message):
        inspect_remote(store, served, settings)


def test_a_config_that_is_missing(
    store: ModelStore, settings: Settings, server: Registry, served: Reference
) -> None:
    server.blobs.clear()
    with pytest.raises(RegistryError, match="has no blob") as caught:
        inspect_remote(store, served, settings)
    assert "pushed incompletely" in caught.value.hint


def asked_for_config(server: Registry) -> int:
    return len([r for r in server.seen("GET", "/blobs/") if r.authorization])


@pytest.mark.usefixtures("waits")
@pytest.mark.parametrize(
    ("fault", "requests"),
    [(faults.disconnect(100), 2), (faults.disconnect(0), 2), (faults.whole, 1)],
)
def test_a_config_that_comes_in_the_end(
    store: ModelStore,
    settings: Settings,
    server: Registry,
    served: Reference,
    fault: faults.Fault,
    requests: int,
) -> None:
    server.lasting.append((CONFIG, faults.on(1, authorized(fault))))
    assert inspect_remote(store, served, settings)["id"] == sha256(golden.MANIFEST)
    assert asked_for_config(server) == requests


@pytest.mark.usefixtures("waits")
def test_a_config_that_always_breaks_off(
    store: ModelStore, settings: Settings, server: Registry, served: Reference
) -> None:
    server.lasting.append((CONFIG, authorized(faults.disconnect(100))))
    with pytest.raises(RegistryError, match=f"can't reach {server.address}"):
        inspect_remote(store, served, settings)
    assert asked_for_config(server) == MAX_RETRIES + 1
