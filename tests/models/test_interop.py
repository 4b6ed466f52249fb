"""Artifacts of all three dialects, exchanged with `oras`, `crane` and `skopeo` over a registry."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.artifacts.media import Dialect, ModelFormat, Packing
from runner.errors import BadModelFile
from runner.models.package import package
from runner.models.package_order import PackageFormat, PackageOrder
from runner.models.transfer import pull, push
from runner.registry.reference import Reference, parse
from runner.settings import Settings
from runner.store.store import ModelStore
from tests.artifacts import golden
from tests.models.artifacts import digest
from tests.store.layouts import read_layout, write_layout
from tests.store.tars import packed, tar
from tests.support.tools import tool

CNCF = "application/vnd.cncf.model."


@dataclass(frozen=True)
class Artifact:
    manifest: bytes
    config: bytes
    files: tuple[bytes, ...]
    laid_out: dict[str, bytes]
    """What its bundle holds."""

    @property
    def id(self) -> str:
        return digest(self.manifest)

    @property
    def blobs(self) -> tuple[bytes, ...]:
        return (self.config, *self.files)


ARTIFACTS = {
    Dialect.DOCKER_V01: Artifact(
        golden.MANIFEST,
        golden.CONFIG,
        (golden.GGUF, golden.CHAT_TEMPLATE, golden.LICENSE),
        {"model.gguf": golden.GGUF, "template.jinja": golden.CHAT_TEMPLATE},
    ),
    Dialect.DOCKER_V02: Artifact(
        golden.FOLDER_MANIFEST,
        golden.FOLDER_CONFIG,
        tuple(golden.FOLDER.values()),
        golden.FOLDER,
    ),
    Dialect.MODELPACK: Artifact(
        golden.MODELPACK_MANIFEST,
        golden.MODELPACK_CONFIG,
        tuple(golden.FOLDER.values()),
        golden.FOLDER,
    ),
}
each_dialect = pytest.mark.parametrize("artifact", ARTIFACTS.values(), ids=["v0.1", "v0.2", "cncf"])


@pytest.fixture
def reference(registry: str) -> Reference:
    return parse(f"{registry}/test/{uuid.uuid4().hex}:1")


def run(*command: str | Path, cwd: Path | None = None) -> bytes:
    done = subprocess.run(command, capture_output=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def oras(*arguments: str | Path, cwd: Path | None = None) -> bytes:
    return run(tool("oras"), *arguments, cwd=cwd)


def crane(*arguments: str | Path) -> bytes:
    return run(tool("crane"), *arguments)


def skopeo(*arguments: str | Path) -> bytes:
    return run(tool("skopeo"), "--insecure-policy", *arguments)


def push_with_oras(layout: Path, goal: Reference) -> None:
    oras("cp", "--from-oci-layout", "--to-plain-http", f"{layout}:it", goal.long)


def push_with_crane(layout: Path, goal: Reference) -> None:
    crane("push", layout, goal.long)


def push_with_skopeo(layout: Path, goal: Reference) -> None:
    skopeo("copy", "--dest-tls-verify=false", f"oci:{layout}:it", f"docker://{goal.long}")


def pull_with_oras(source: Reference, folder: Path) -> None:
    oras("cp", "--from-plain-http", "--to-oci-layout", source.long, f"{folder}:it")


def pull_with_crane(source: Reference, folder: Path) -> None:
    crane("pull", "--format", "oci", source.long, folder)


def pull_with_skopeo(source: Reference, folder: Path) -> None:
    skopeo("copy", "--src-tls-verify=false", f"docker://{source.long}", f"oci:{folder}:it")


def laid_out(store: ModelStore, model_id: str) -> dict[str, bytes]:
    folder = store.bundle(model_id).folder
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


Pusher = Callable[[Path, Reference], None]
Puller = Callable[[Reference, Path], None]


@each_dialect
@pytest.mark.parametrize("pusher", [push_with_oras, push_with_crane, push_with_skopeo])
def test_what_peers_push_is_read(
    artifact: Artifact,
    pusher: Pusher,
    reference: Reference,
    store: ModelStore,
    settings: Settings,
    tmp_path: Path,
) -> None:
    pusher(write_layout(tmp_path / "layout", artifact.manifest, artifact.blobs), reference)
    model = pull(store, reference, settings)
    assert model.id == artifact.id
    assert model.created == golden.CREATED
    assert store.manifest(model.id) == artifact.manifest
    assert laid_out(store, model.id) == artifact.laid_out


@each_dialect
@pytest.mark.parametrize("puller", [pull_with_oras, pull_with_crane, pull_with_skopeo])
def test_what_we_push_is_read_by_peers(
    artifact: Artifact,
    puller: Puller,
    reference: Reference,
    store: ModelStore,
    settings: Settings,
    tmp_path: Path,
) -> None:
    for content in artifact.files:
        store.blobs.add_bytes(content)
    model = store.commit(artifact.manifest, artifact.config, reference)
    assert push(store, reference, settings) == model.id == artifact.id
    puller(reference, tmp_path / "layout")
    assert read_layout(tmp_path / "layout") == {artifact.manifest, *artifact.blobs}


@each_dialect
def test_all_peers_name_ours_by_the_same_digest(
    artifact: Artifact, reference: Reference, store: ModelStore, settings: Settings
) -> None:
    for content in artifact.files:
        store.blobs.add_bytes(content)
    store.commit(artifact.manifest, artifact.config, reference)
    push(store, reference, settings)
    described = oras("manifest", "fetch", "--plain-http", "--descriptor", reference.long)
    assert json.loads(described)["digest"] == artifact.id
    assert crane("digest", reference.long).decode().strip() == artifact.id
    raw = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{reference.long}")
    assert raw == artifact.manifest
    config = oras("manifest", "fetch-config", "--plain-http", reference.long)
    assert config == artifact.config


@pytest.mark.parametrize(
    ("dialect", "written"),
    [(Dialect.DOCKER_V02, PackageFormat.DOCKER), (Dialect.MODELPACK, PackageFormat.CNCF)],
)
def test_what_we_package_is_what_peers_package(
    dialect: Dialect, written: PackageFormat, store: ModelStore, tmp_path: Path
) -> None:
    for path, content in golden.FOLDER.items():
        (tmp_path / "folder" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / path).write_bytes(content)
    order = PackageOrder(
        store.reference("folder"),
        safetensors=tmp_path / "folder",
        dialect=written,
        created=golden.CREATED,
    )
    model = package(store, order)
    assert store.manifest(model.id) == ARTIFACTS[dialect].manifest


def test_a_modelpack_made_with_oras_of_every_kind_of_layer(
    reference: Reference, store: ModelStore, settings: Settings, tmp_path: Path
) -> None:
    parts = {
        "model.safetensors": ("weight.v1.raw", golden.SAFETENSORS),
        "config.tar": ("weight.config.v1.tar", tar(("config.json", b"{}"))),
        "doc.tgz": ("doc.v1.tar+gzip", packed(tar(("README.md", b"#")), Packing.TAR_GZIP)),
        "code.tzst": ("code.v1.tar+zstd", packed(tar(("src/a.py", b"1")), Packing.TAR_ZSTD)),
        "train.csv": ("dataset.v1.raw", b"a,b\n"),
        "LICENSE": ("doc.v1.raw", golden.LICENSE),
    }
    for name, (_, content) in parts.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "config").write_bytes(b'{"descriptor":{},"modelfs":{},"config":{"paramSize":"8"}}')
    oras(
        *("push", "--plain-http", "--artifact-type", f"{CNCF}manifest.v1+json"),
        *("--config", f"config:{CNCF}config.v1+json", reference.long),
        *(f"{name}:{CNCF}{kind}" for name, (kind, _) in parts.items()),
        cwd=tmp_path,
    )
    model = pull(store, reference, settings)
    assert (model.config.format, model.config.parameters) == (ModelFormat.SAFETENSORS, "8")
    assert laid_out(store, model.id) == {
        "model.safetensors": golden.SAFETENSORS,
        "config.json": b"{}",
        "README.md": b"#",
        "src/a.py": b"1",
        "train.csv": b"a,b\n",
        "LICENSE": golden.LICENSE,
    }


def test_a_folder_made_with_oras(
    reference: Reference, store: ModelStore, settings: Settings, tmp_path: Path
) -> None:
    for path, content in golden.FOLDER.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    (tmp_path / "config").write_bytes(golden.FOLDER_CONFIG)
    weights = "model.safetensors:application/vnd.docker.ai.safetensors"
    others = [path for path in golden.FOLDER if path != "model.safetensors"]
    oras(
        *("push", "--plain-http", "--config", f"config:{Dialect.DOCKER_V02.value}", reference.long),
        *(weights, *(f"{path}:application/vnd.docker.ai.model.file" for path in others)),
        cwd=tmp_path,
    )
    model = pull(store, reference, settings)
    assert model.config.architecture == "LlamaForCausalLM"
    assert laid_out(store, model.id) == golden.FOLDER


@pytest.mark.parametrize(
    ("stated", "kind", "name"),
    [
        (b'{"config":{"format":"gguf"}}', "weight.v1.raw", "model.gguf"),
        (b'{"config":{}}', "weight.v1.gguf", "model.gguf"),
    ],
)
def test_weights_that_have_no_name(
    stated: bytes,
    kind: str,
    name: str,
    reference: Reference,
    store: ModelStore,
    settings: Settings,
    tmp_path: Path,
) -> None:
    layer = {"mediaType": CNCF + kind, "size": len(golden.GGUF), "digest": digest(golden.GGUF)}
    config = {"mediaType": f"{CNCF}config.v1+json", "size": len(stated), "digest": digest(stated)}
    document = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "artifactType": f"{CNCF}manifest.v1+json",
        "config": config,
        "layers": [layer],
    }
    manifest = json.dumps(document).encode()
    layout = write_layout(tmp_path / "layout", manifest, (stated, golden.GGUF))
    push_with_skopeo(layout, reference)
    model = pull(store, reference, settings)
    assert model.config.format is ModelFormat.GGUF
    assert laid_out(store, model.id) == {name: golden.GGUF}


def test_an_index_of_one_model_is_followed(
    reference: Reference, store: ModelStore, settings: Settings, tmp_path: Path
) -> None:
    artifact = ARTIFACTS[Dialect.MODELPACK]
    push_with_oras(write_layout(tmp_path / "a", artifact.manifest, artifact.blobs), reference)
    index = f"{reference.name}:index"
    oras("manifest", "index", "create", "--plain-http", index, reference.tag)
    assert pull(store, parse(index), settings).id == artifact.id


def test_an_index_of_two_models_says_what_there_is(
    reference: Reference, store: ModelStore, settings: Settings, tmp_path: Path
) -> None:
    for tag, artifact in zip(("1", "2"), ARTIFACTS.values(), strict=False):
        goal = parse(f"{reference.name}:{tag}")
        push_with_crane(write_layout(tmp_path / tag, artifact.manifest, artifact.blobs), goal)
    index = f"{reference.name}:index"
    oras("manifest", "index", "create", "--plain-http", index, "1", "2")
    with pytest.raises(BadModelFile, match="index of several platforms") as caught:
        pull(store, parse(index), settings)
    assert ARTIFACTS[Dialect.DOCKER_V01].id in caught.value.hint
    assert store.list() == ()


def test_an_adapter_keeps_the_name_of_its_base(
    reference: Reference, store: ModelStore, settings: Settings, tmp_path: Path
) -> None:
    document = json.loads(golden.MANIFEST)
    document["layers"][0]["mediaType"] = "application/vnd.docker.ai.gguf.v3.lora"
    document["annotations"] = {"org.opencontainers.image.base.name": "docker.io/ai/base:1"}
    manifest = json.dumps(document).encode()
    blobs = ARTIFACTS[Dialect.DOCKER_V01].blobs
    push_with_skopeo(write_layout(tmp_path / "layout", manifest, blobs), reference)
    model = pull(store, reference, settings)
    assert model.config.base == "docker.io/ai/base:1"
