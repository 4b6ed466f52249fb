"""What we write is what Docker Model Runner writes, byte for byte."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import pytest
from msgspec import structs

from runner.artifacts.artifact import ModelConfig, parse_config, parse_manifest
from runner.artifacts.artifact_writer import Contents, PackedFile, go_json, write_artifact
from runner.artifacts.media import Dialect, LayerKind, ModelFormat, kind_of_file
from runner.errors import BadInput
from runner.models.describe import gguf_config
from runner.weights.gguf import parse_gguf
from tests.artifacts import golden

INFO = parse_gguf(golden.GGUF, len(golden.GGUF))


def packed(kind: LayerKind, name: str, content: bytes) -> PackedFile:
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    return PackedFile(kind, name, digest, len(content))


FILES = (
    packed(LayerKind.GGUF, "golden.gguf", golden.GGUF),
    packed(LayerKind.CHAT_TEMPLATE, "chat.jinja", golden.CHAT_TEMPLATE),
    packed(LayerKind.LICENSE, "LICENSE", golden.LICENSE),
)
GGUF = Contents(gguf_config(INFO, 128), FILES, created=golden.CREATED)
FOLDER_CONFIG = ModelConfig(
    ModelFormat.SAFETENSORS,
    quantization="F16",
    parameters="8.00",
    architecture="LlamaForCausalLM",
    size="200.00B",
    context_size=64,
    metadata={"architecture": "LlamaForCausalLM", "format": "pt", "tensor_count": "2"},
)
FOLDER = Contents(
    FOLDER_CONFIG,
    tuple(packed(kind_of_file(path), path, content) for path, content in golden.FOLDER.items()),
    created=golden.CREATED,
)
WITHOUT_CONTEXT = replace(FOLDER, config=structs.replace(FOLDER_CONFIG, context_size=None))


@pytest.mark.parametrize(
    ("contents", "dialect", "manifest", "config"),
    [
        (GGUF, Dialect.DOCKER_V01, golden.MANIFEST, golden.CONFIG),
        (FOLDER, Dialect.DOCKER_V02, golden.FOLDER_MANIFEST, golden.FOLDER_CONFIG),
        (
            WITHOUT_CONTEXT,
            Dialect.MODELPACK,
            golden.MODELPACK_MANIFEST,
            golden.MODELPACK_CONFIG,
        ),
    ],
)
def test_golden(contents: Contents, dialect: Dialect, manifest: bytes, config: bytes) -> None:
    written = write_artifact(contents, dialect)
    assert written.config == config
    assert written.manifest == manifest
    assert write_artifact(contents, dialect) == written


def test_what_is_empty_is_left_out() -> None:
    written = write_artifact(Contents(gguf_config(INFO), FILES[:1]), Dialect.DOCKER_V01)
    assert b"context_size" not in written.config
    assert b"pickles" not in written.config
    assert b'"created":"1970-01-01T00:00:00Z"' in written.config
    assert b"artifactType" not in written.manifest
    assert json.loads(written.manifest).keys() == {
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
    }


def test_modelpack_writes_sizes_in_small_letters() -> None:
    contents = Contents(ModelConfig(ModelFormat.GGUF, parameters="8.03B"), FILES[:1])
    assert b'"paramSize":"8.03b"' in write_artifact(contents, Dialect.MODELPACK).config


def test_annotations_come_last_and_sorted() -> None:
    adapter = replace(
        GGUF,
        config=structs.replace(GGUF.config, base="ai/base:1"),
        files=(replace(FILES[0], kind=LayerKind.LORA),),
        annotations={
            "org.opencontainers.image.base.name": "ai/base:1",
            "org.opencontainers.image.base.digest": "sha256:x",
        },
    )
    written = write_artifact(adapter, Dialect.DOCKER_V01)
    assert written.manifest.endswith(
        b'}],"annotations":{"org.opencontainers.image.base.digest":"sha256:x",'
        b'"org.opencontainers.image.base.name":"ai/base:1"}}'
    )
    manifest = parse_manifest(written.manifest)
    assert manifest.layers[0].kind is LayerKind.LORA
    config, _ = parse_config(written.config, manifest)
    assert (config.base, config.format) == ("ai/base:1", ModelFormat.GGUF)


@pytest.mark.parametrize("dialect", Dialect)
def test_pickles_are_told_in_every_dialect(dialect: Dialect) -> None:
    files = (packed(LayerKind.WEIGHT, "weights.dat", b"p"), packed(LayerKind.FILE, "a.json", b"j"))
    contents = Contents(ModelConfig(ModelFormat.PYTORCH, pickles=True), files)
    if dialect is Dialect.DOCKER_V01:
        contents = replace(contents, files=(packed(LayerKind.GGUF, "m.gguf", b"g"),))
    written = write_artifact(contents, dialect)
    assert parse_config(written.config, parse_manifest(written.manifest))[0].pickles


def test_a_pipeline_in_one_file() -> None:
    config = ModelConfig(ModelFormat.DDUF, metadata={"layout": "dduf"})
    files = (packed(LayerKind.DDUF, "x.dduf", b"z"),)
    written = write_artifact(Contents(config, files), Dialect.DOCKER_V01)
    assert b'"config":{"format":"dduf","diffusers":{"layout":"dduf"}}' in written.config
    assert parse_config(written.config, parse_manifest(written.manifest))[0] == config


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        (LayerKind.GGUF, "model", "model.gguf"),
        (LayerKind.MMPROJ, "projector.gguf", "projector.gguf.mmproj"),
        (LayerKind.MMPROJ, "mmproj-x.gguf", "mmproj-x.gguf"),
        (LayerKind.CHAT_TEMPLATE, "template.txt", "template.txt.jinja"),
        (LayerKind.LICENSE, "Apache.txt", "Apache.txt.LICENSE"),
        (LayerKind.SAFETENSORS, "w", "w.safetensors"),
        (LayerKind.FILE, "config.json", "config.json"),
    ],
)
def test_names_tell_what_modelpack_has_no_type_for(kind: LayerKind, name: str, path: str) -> None:
    weights = packed(LayerKind.GGUF, "other.gguf", b"g")
    contents = Contents(ModelConfig(ModelFormat.GGUF), (weights, packed(kind, name, b"x")))
    layer = parse_manifest(write_artifact(contents, Dialect.MODELPACK).manifest).layers[1]
    assert (layer.path, layer.kind) == (path, kind)
    layer = parse_manifest(write_artifact(contents, Dialect.DOCKER_V02).manifest).layers[1]
    assert layer.path == name


@pytest.mark.parametrize("dialect", [Dialect.DOCKER_V01, Dialect.DOCKER_V02])
@pytest.mark.parametrize("context_size", [0, -1, 2**31])
def test_context_sizes_out_of_range(dialect: Dialect, context_size: int) -> None:
    contents = replace(GGUF, config=structs.replace(GGUF.config, context_size=context_size))
    with pytest.raises(BadInput, match="out of range"):
        write_artifact(contents, dialect)


@pytest.mark.parametrize(
    ("contents", "word"),
    [
        (FOLDER, "context size"),
        (replace(GGUF, config=structs.replace(gguf_config(INFO), base="x")), "adapters"),
        (
            Contents(gguf_config(INFO), (replace(FILES[0], kind=LayerKind.LORA),)),
            "adapters",
        ),
    ],
)
def test_what_modelpack_has_no_word_for(contents: Contents, word: str) -> None:
    with pytest.raises(BadInput, match=f"no word for .*{word}") as caught:
        write_artifact(contents, Dialect.MODELPACK)
    assert "--format docker" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("config.json", "share the path"),
        ("config.json/x", "is a file and the folder"),
        ("../x", "leads out"),
        ("/x", "leads out"),
        ("a\nb", "no usable"),
    ],
)
def test_names_that_can_not_be(name: str, reason: str) -> None:
    own = packed(LayerKind.FILE, "config.json", b"y")
    contents = replace(GGUF, files=(FILES[0], own, packed(LayerKind.FILE, name, b"x")))
    for dialect in (Dialect.DOCKER_V01, Dialect.DOCKER_V02):
        with pytest.raises(BadInput, match=reason):
            write_artifact(contents, dialect)


def test_one_name_for_what_is_known_by_its_kind() -> None:
    projector = packed(LayerKind.MMPROJ, "golden.gguf", b"p")
    contents = replace(GGUF, files=(FILES[0], projector))
    layers = parse_manifest(write_artifact(contents, Dialect.DOCKER_V01).manifest).layers
    assert [(layer.kind, layer.path) for layer in layers] == [
        (LayerKind.GGUF, "golden.gguf"),
        (LayerKind.MMPROJ, "golden.gguf"),
    ]
    with pytest.raises(BadInput, match="share the path"):
        write_artifact(contents, Dialect.DOCKER_V02)
    outside = replace(GGUF, files=(FILES[0], replace(projector, name="../golden.gguf")))
    with pytest.raises(BadInput, match="leads out"):
        write_artifact(outside, Dialect.DOCKER_V01)


def test_licences_of_one_name() -> None:
    contents = replace(GGUF, files=(*FILES, packed(LayerKind.LICENSE, "LICENSE", b"MIT\n")))
    write_artifact(contents, Dialect.DOCKER_V01)
    with pytest.raises(BadInput, match="share the path"):
        write_artifact(contents, Dialect.DOCKER_V02)


def test_a_time_out_of_range() -> None:
    with pytest.raises(BadInput, match="not a time"):
        write_artifact(replace(GGUF, created=2**62), Dialect.DOCKER_V01)


def test_json_as_go_writes_it() -> None:
    written = go_json({"a": '<&>"\\\u2028\u2029\x01\x7fä\t', "b": [1, True, None]})
    assert written == (
        '{"a":"\\u003c\\u0026\\u003e\\"\\\\\\u2028\\u2029\\u0001\x7fä\\t","b":[1,true,null]}'.encode()
    )
