"""Media types and what they stand for."""

from __future__ import annotations

import re

import pytest

from runner.artifacts.media import (
    Dialect,
    LayerKind,
    Packing,
    dialect_of,
    is_model_type,
    kind_of_file,
    kind_of_layer,
    layer_type,
)
from runner.errors import BadModelFile

DOCKER = "application/vnd.docker.ai."
CNCF = "application/vnd.cncf.model."


@pytest.mark.parametrize(
    ("media_type", "path", "kind", "packing"),
    [
        (f"{DOCKER}gguf.v3", "", LayerKind.GGUF, Packing.RAW),
        (f"{DOCKER}gguf.v3", "q/mmproj-F16.gguf", LayerKind.MMPROJ, Packing.RAW),
        (f"{DOCKER}gguf.v3.lora", "a.gguf", LayerKind.LORA, Packing.RAW),
        (f"{DOCKER}gguf.v3.mmproj", "", LayerKind.MMPROJ, Packing.RAW),
        (f"{DOCKER}safetensors", "x", LayerKind.SAFETENSORS, Packing.RAW),
        (f"{DOCKER}dduf", "", LayerKind.DDUF, Packing.RAW),
        (f"{DOCKER}chat.template.jinja", "", LayerKind.CHAT_TEMPLATE, Packing.RAW),
        (f"{DOCKER}license", "", LayerKind.LICENSE, Packing.RAW),
        (f"{DOCKER}model.file", "config.json", LayerKind.FILE, Packing.RAW),
        (f"{DOCKER}model.file", "pytorch_model.bin", LayerKind.WEIGHT, Packing.RAW),
        (f"{DOCKER}model.file", "modeling_x.py", LayerKind.CODE, Packing.RAW),
        (f"{DOCKER}model.file", "x.gguf", LayerKind.FILE, Packing.RAW),
        (f"{DOCKER}model.file", "", LayerKind.FILE, Packing.RAW),
        (f"{DOCKER}dir.tar", "", LayerKind.FILE, Packing.TAR),
        (f"{DOCKER}vllm.config.tar", "", LayerKind.FILE, Packing.TAR),
        (f"{CNCF}weight.v1.raw", "", LayerKind.WEIGHT, Packing.RAW),
        (f"{CNCF}weight.v1.raw", "a.GGUF", LayerKind.GGUF, Packing.RAW),
        (f"{CNCF}weight.v1.raw", "mmproj.gguf", LayerKind.MMPROJ, Packing.RAW),
        (f"{CNCF}weight.v1.raw", "x.mmproj", LayerKind.MMPROJ, Packing.RAW),
        (f"{CNCF}weight.v1.raw", "config.json", LayerKind.WEIGHT, Packing.RAW),
        (f"{CNCF}weight.v1.gguf", "", LayerKind.GGUF, Packing.RAW),
        (f"{CNCF}weight.v1.safetensors", "", LayerKind.SAFETENSORS, Packing.RAW),
        (f"{CNCF}weight.v1.tar+zstd", "w.gguf", LayerKind.WEIGHT, Packing.TAR_ZSTD),
        (f"{CNCF}weight.config.v1.raw", "x.jinja", LayerKind.CHAT_TEMPLATE, Packing.RAW),
        (f"{CNCF}weight.config.v1.raw", "x.safetensors", LayerKind.FILE, Packing.RAW),
        (f"{CNCF}weight.config.v1.tar+gzip", "", LayerKind.FILE, Packing.TAR_GZIP),
        (f"{CNCF}doc.v1.raw", "LICENSE", LayerKind.LICENSE, Packing.RAW),
        (f"{CNCF}doc.v1.tar", "", LayerKind.DOC, Packing.TAR),
        (f"{CNCF}code.v1.raw", "LICENSE", LayerKind.CODE, Packing.RAW),
        (f"{CNCF}dataset.v1.raw", "d.gguf", LayerKind.DATASET, Packing.RAW),
        ("application/vnd.cnai.model.weight.v1.tar", "", LayerKind.WEIGHT, Packing.TAR),
        ("application/vnd.cnai.model.layer.v1.tar", "", LayerKind.WEIGHT, Packing.TAR),
        ("application/vnd.cnai.model.layer.v1.tar+gzip", "", LayerKind.WEIGHT, Packing.TAR_GZIP),
        ("text/plain", "a.gguf", LayerKind.OTHER, Packing.RAW),
    ],
)
def test_layers(media_type: str, path: str, kind: LayerKind, packing: Packing) -> None:
    assert kind_of_layer(media_type, path) == (kind, packing)


@pytest.mark.parametrize(
    "media_type",
    [
        f"{CNCF}weight.v1.tar+xz",
        "application/vnd.cnai.model.weight.v1.tar+lz4",
        f"{CNCF}weight.v2.raw",
        f"{CNCF}adapter.v1.raw",
    ],
)
def test_a_modelpack_type_of_another_time_is_named(media_type: str) -> None:
    with pytest.raises(BadModelFile, match=re.escape(repr(media_type))):
        kind_of_layer(media_type, "model.gguf")


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("kind", LayerKind)
def test_what_is_written_raw_is_read_raw(dialect: Dialect, kind: LayerKind) -> None:
    assert kind_of_layer(layer_type(kind, dialect))[1] is Packing.RAW


@pytest.mark.parametrize(
    ("kind", "docker", "cncf"),
    [
        (LayerKind.GGUF, "gguf.v3", "weight"),
        (LayerKind.LORA, "gguf.v3.lora", "weight"),
        (LayerKind.MMPROJ, "mmproj", "weight"),
        (LayerKind.WEIGHT, "model.file", "weight"),
        (LayerKind.FILE, "model.file", "weight.config"),
        (LayerKind.CHAT_TEMPLATE, "chat.template.jinja", "weight.config"),
        (LayerKind.LICENSE, "license", "doc"),
        (LayerKind.DOC, "model.file", "doc"),
        (LayerKind.CODE, "model.file", "code"),
        (LayerKind.DATASET, "model.file", "dataset"),
    ],
)
def test_types_that_are_written(kind: LayerKind, docker: str, cncf: str) -> None:
    assert layer_type(kind, Dialect.DOCKER_V01) == f"{DOCKER}{docker}"
    assert layer_type(kind, Dialect.DOCKER_V02) == f"{DOCKER}{docker}"
    assert layer_type(kind, Dialect.MODELPACK) == f"{CNCF}{cncf}.v1.raw"


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("A-Q4_K_M.GGUF", LayerKind.GGUF),
        ("mmproj-model-f16.gguf", LayerKind.MMPROJ),
        ("mmproj/model.gguf", LayerKind.GGUF),
        ("vae/model.safetensors", LayerKind.SAFETENSORS),
        ("model.safetensors.index.json", LayerKind.FILE),
        ("chat_template.json", LayerKind.CHAT_TEMPLATE),
        ("x.jinja", LayerKind.CHAT_TEMPLATE),
        ("LICENSE.md", LayerKind.LICENSE),
        ("Notice", LayerKind.LICENSE),
        ("README.md", LayerKind.DOC),
        ("tokenizer.model", LayerKind.FILE),
        ("model.onnx_data", LayerKind.WEIGHT),
        ("pytorch_model.bin", LayerKind.WEIGHT),
        ("configuration_x.py", LayerKind.CODE),
        ("x", LayerKind.FILE),
    ],
)
def test_files(path: str, kind: LayerKind) -> None:
    assert kind_of_file(path) is kind


def test_dialects() -> None:
    cnai = "application/vnd.cnai.model."
    empty = "application/vnd.oci.empty.v1+json"
    assert dialect_of(f"{DOCKER}model.config.v0.1+json") is Dialect.DOCKER_V01
    assert dialect_of(f"{CNCF}config.v1+json") is Dialect.MODELPACK
    assert dialect_of(f"{cnai}config.v1+json") is Dialect.MODELPACK
    assert dialect_of(empty, f"{CNCF}manifest.v1+json") is Dialect.MODELPACK
    assert dialect_of(empty) is None
    assert dialect_of("application/vnd.oci.image.config.v1+json") is None
    assert is_model_type(f"{cnai}manifest.v1+json")
    assert is_model_type(f"{DOCKER}model.config.v0.2+json")
    assert not is_model_type("")
