"""What the parts of a model artifact are: formats, layers, and the media types that say so.

Three dialects are spoken: Docker Model Runner's v0.1 (files named by their kind), its v0.2 (a
folder, one file per layer) and CNCF ModelPack (files or archives). Sources: docker/model-runner
`pkg/distribution/types`, modelpack/model-spec `specs-go/v1`. What ModelPack was called before
(`cnai` in place of `cncf`) is read too.
"""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import PurePosixPath

from runner.errors import BadModelFile

CONFIG_V01 = "application/vnd.docker.ai.model.config.v0.1+json"
CONFIG_V02 = "application/vnd.docker.ai.model.config.v0.2+json"
CONFIG_CNCF = "application/vnd.cncf.model.config.v1+json"
ARTIFACT_CNCF = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_EMPTY = "application/vnd.oci.empty.v1+json"
_ARTIFACTS_MODELPACK = frozenset({ARTIFACT_CNCF, "application/vnd.cnai.model.manifest.v1+json"})
IMAGE_CONFIGS = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)

FILE_PATH = "org.cncf.model.filepath"
TITLE = "org.opencontainers.image.title"
PATH_ANNOTATIONS = (FILE_PATH, "org.cnai.model.filepath", TITLE)
"""Where a layer says what its file is called, the first that does counts."""
FILE_METADATA = "org.cncf.model.file.metadata+json"
MEDIATYPE_UNTESTED = "org.cncf.model.file.mediatype.untested"
BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"
SOURCE = "org.opencontainers.image.source"
REVISION = "org.opencontainers.image.revision"
PICKLES = "io.runner.model.pickles"
"""`true` where loading the weights may run code in them, and the config has no word for it."""


class Dialect(StrEnum):
    """How an artifact is written down."""

    DOCKER_V01 = CONFIG_V01
    DOCKER_V02 = CONFIG_V02
    MODELPACK = CONFIG_CNCF


_DIALECTS = {dialect.value: dialect for dialect in Dialect} | {
    "application/vnd.cnai.model.config.v1+json": Dialect.MODELPACK
}


def dialect_of(config_type: str, artifact_type: str = "") -> Dialect | None:
    """The dialect of a manifest with this config and artifact type; None where it is no model's."""
    if config_type == CONFIG_EMPTY and artifact_type in _ARTIFACTS_MODELPACK:
        return Dialect.MODELPACK  # as `podman artifact add` writes it
    return _DIALECTS.get(config_type)


def is_model_type(media_type: str) -> bool:
    """Whether a config's or an artifact's type is a model's."""
    return media_type in _DIALECTS or media_type in _ARTIFACTS_MODELPACK


class ModelFormat(StrEnum):
    """How a model's weights are stored."""

    GGUF = "gguf"
    SAFETENSORS = "safetensors"
    DDUF = "dduf"
    DIFFUSERS = "diffusers"
    PYTORCH = "pytorch"
    ONNX = "onnx"
    CTRANSLATE2 = "ctranslate2"
    OPENVINO = "openvino"
    OTHER = "other"


class LayerKind(StrEnum):
    """What the files of a layer are for."""

    GGUF = "gguf"
    SAFETENSORS = "safetensors"
    DDUF = "dduf"
    WEIGHT = "weight"
    LORA = "lora"
    MMPROJ = "mmproj"
    CHAT_TEMPLATE = "chat-template"
    LICENSE = "license"
    FILE = "file"
    DOC = "doc"
    CODE = "code"
    DATASET = "dataset"
    OTHER = "other"


WEIGHT_KINDS = frozenset(
    {
        LayerKind.GGUF,
        LayerKind.SAFETENSORS,
        LayerKind.DDUF,
        LayerKind.WEIGHT,
        LayerKind.LORA,
    }
)


class Packing(StrEnum):
    """How a layer's blob holds its files: one as it is, or several in an archive."""

    RAW = "raw"
    TAR = "tar"
    TAR_GZIP = "tar+gzip"
    TAR_ZSTD = "tar+zstd"


_DOCKER = "application/vnd.docker.ai."
_CNCF = "application/vnd.cncf.model."

_DOCKER_KINDS = {
    f"{_DOCKER}gguf.v3": LayerKind.GGUF,
    f"{_DOCKER}gguf.v3.lora": LayerKind.LORA,
    f"{_DOCKER}gguf.v3.mmproj": LayerKind.MMPROJ,
    f"{_DOCKER}safetensors": LayerKind.SAFETENSORS,
    f"{_DOCKER}dduf": LayerKind.DDUF,
    f"{_DOCKER}mmproj": LayerKind.MMPROJ,
    f"{_DOCKER}chat.template.jinja": LayerKind.CHAT_TEMPLATE,
    f"{_DOCKER}license": LayerKind.LICENSE,
}
_DOCKER_ARCHIVES = {
    f"{_DOCKER}vllm.config.tar": LayerKind.FILE,
    f"{_DOCKER}dir.tar": LayerKind.FILE,
}
_DOCKER_TYPES = {
    LayerKind.GGUF: f"{_DOCKER}gguf.v3",
    LayerKind.LORA: f"{_DOCKER}gguf.v3.lora",
    LayerKind.SAFETENSORS: f"{_DOCKER}safetensors",
    LayerKind.DDUF: f"{_DOCKER}dduf",
    LayerKind.MMPROJ: f"{_DOCKER}mmproj",
    LayerKind.CHAT_TEMPLATE: f"{_DOCKER}chat.template.jinja",
    LayerKind.LICENSE: f"{_DOCKER}license",
}
_DOCKER_OTHER = f"{_DOCKER}model.file"

_CNCF_TYPE = re.compile(
    r"application/vnd\.(?:cncf|cnai)\.model\.(weight\.config|weight|layer|doc|code|dataset)"
    r"\.v1\.(raw|tar\+gzip|tar\+zstd|tar|gguf|safetensors)"
)
_CNCF_PREFIXES = (_CNCF, "application/vnd.cnai.model.")
_CNCF_KINDS = {
    "weight": LayerKind.WEIGHT,
    "layer": LayerKind.WEIGHT,  # all that the first specification had a word for
    "weight.config": LayerKind.FILE,
    "doc": LayerKind.DOC,
    "code": LayerKind.CODE,
    "dataset": LayerKind.DATASET,
}
_CNCF_TYPES = {
    LayerKind.LICENSE: "doc",
    LayerKind.DOC: "doc",
    LayerKind.CODE: "code",
    LayerKind.DATASET: "dataset",
    LayerKind.CHAT_TEMPLATE: "weight.config",
    LayerKind.FILE: "weight.config",
    LayerKind.OTHER: "weight.config",
}
"""Kinds that ModelPack has words for; every other one is a weight there."""

_LICENSE_NAMES = ("license", "licence", "copying", "notice")
_WEIGHT_SUFFIXES = (
    *(".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".onnx", ".onnx_data", ".npz", ".h5"),
    *(".msgpack", ".tflite", ".nemo", ".xml"),
)
_KINDS_BY_SUFFIX = dict.fromkeys(_WEIGHT_SUFFIXES, LayerKind.WEIGHT) | {
    ".md": LayerKind.DOC,
    ".py": LayerKind.CODE,
    ".ipynb": LayerKind.CODE,
    ".sh": LayerKind.CODE,
}


def kind_of_layer(media_type: str, path: str = "") -> tuple[LayerKind, Packing]:
    """What a layer of this media type holds; `path` tells apart what has one type.

    Raises BadModelFile for a type of ModelPack's that is not known: who can't tell how its files
    are packed can't read them.
    """
    if media_type == _DOCKER_OTHER:
        return _as_file(path), Packing.RAW
    if media_type in _DOCKER_KINDS:
        kind = _DOCKER_KINDS[media_type]
        is_projector = kind is LayerKind.GGUF and kind_of_file(path) is LayerKind.MMPROJ
        return LayerKind.MMPROJ if is_projector else kind, Packing.RAW
    if media_type in _DOCKER_ARCHIVES:
        return _DOCKER_ARCHIVES[media_type], Packing.TAR
    match = _CNCF_TYPE.fullmatch(media_type)
    if not match:
        _refuse_unknown(media_type)
        return LayerKind.OTHER, Packing.RAW
    kind, packing = _CNCF_KINDS[match[1]], match[2]
    if packing in {"gguf", "safetensors"}:  # what early writers called their weights
        return LayerKind(packing), Packing.RAW
    if Packing(packing) is Packing.RAW and path:
        kind = _told_apart(kind, path)
    return kind, Packing(packing)


def layer_type(kind: LayerKind, dialect: Dialect) -> str:
    """The media type under which a file of this kind is written, as it is, in a dialect."""
    if dialect is Dialect.MODELPACK:
        return f"{_CNCF}{_CNCF_TYPES.get(kind, 'weight')}.v1.raw"
    return _DOCKER_TYPES.get(kind, _DOCKER_OTHER)


def kind_of_file(path: str) -> LayerKind:
    """What a file of a model's folder is for, by its name, as Docker Model Runner tells them
    apart; weights that it does not know are told from other files."""
    name = PurePosixPath(path).name.lower()
    suffix = PurePosixPath(name).suffix
    if suffix == ".mmproj" or (suffix == ".gguf" and "mmproj" in name):
        return LayerKind.MMPROJ
    if suffix in {".gguf", ".safetensors", ".dduf"}:
        return LayerKind(suffix[1:])
    if suffix == ".jinja" or "chat_template" in name:
        return LayerKind.CHAT_TEMPLATE
    if any(mark in name for mark in _LICENSE_NAMES):
        return LayerKind.LICENSE
    return _KINDS_BY_SUFFIX.get(suffix, LayerKind.FILE)


def _refuse_unknown(media_type: str) -> None:
    if media_type.startswith(_CNCF_PREFIXES):
        raise BadModelFile(
            f"the model has layers of the type {media_type[:200]!r}, which is not known",
            hint="ask its makers for raw, tar, tar+gzip or tar+zstd layers",
        )


def _as_file(path: str) -> LayerKind:
    """Docker's type of all other files; those that it has a type for have that one."""
    kind = kind_of_file(path) if path else LayerKind.FILE
    return kind if kind in {LayerKind.WEIGHT, LayerKind.DOC, LayerKind.CODE} else LayerKind.FILE


def _told_apart(kind: LayerKind, path: str) -> LayerKind:
    """ModelPack's kinds are fewer than ours."""
    by_name = kind_of_file(path)
    if kind is LayerKind.WEIGHT:
        return by_name if by_name in WEIGHT_KINDS | {LayerKind.MMPROJ} else kind
    if kind is LayerKind.FILE and by_name is LayerKind.CHAT_TEMPLATE:
        return by_name
    return by_name if kind is LayerKind.DOC and by_name is LayerKind.LICENSE else kind
