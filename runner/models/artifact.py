"""What a model artifact is: its manifest and config, read and checked. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from runner.errors import BadModelFile, Unsupported
from runner.models import media
from runner.models.media import LayerKind, ModelFormat
from runner.registry.digest import is_digest
from runner.registry.media import DOCKER_INDEX, OCI_INDEX

MAX_MANIFEST = 4 * 1024 * 1024
MAX_CONFIG = 4 * 1024 * 1024
MAX_LAYERS = 10_000
MAX_BLOB = 2**50
MAX_PATH = 1024
MAX_CONTEXT = 2**31 - 1
_INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
_READABLE_CONFIGS = frozenset({media.CONFIG_V01})
_LATER_CONFIGS = frozenset({media.CONFIG_V02, media.CONFIG_CNCF})

Json = Any
"""Whatever a JSON text holds, until it is checked."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """What a config blob says of a model; empty where it says nothing. `gguf` is metadata."""

    format: ModelFormat
    quantization: str = ""
    parameters: str = ""
    architecture: str = ""
    size: str = ""
    context_size: int | None = None
    gguf: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """As in the config blob: what is empty is left out."""
        fields: dict[str, object] = {
            "format": self.format.value,
            "quantization": self.quantization,
            "parameters": self.parameters,
            "architecture": self.architecture,
            "size": self.size,
            "gguf": dict(self.gguf),
            "context_size": self.context_size,
        }
        return {name: value for name, value in fields.items() if value}


@dataclass(frozen=True, slots=True)
class Layer:
    """One file of a model. `size` is bytes; `path` is relative and safe, empty if not named."""

    kind: LayerKind
    media_type: str
    digest: str
    size: int
    path: str = ""


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked manifest; `config` is the config blob's descriptor."""

    config: Layer
    layers: tuple[Layer, ...]

    @property
    def blobs(self) -> tuple[Layer, ...]:
        """Everything the manifest needs, each digest once, the config first."""
        return tuple({blob.digest: blob for blob in (self.config, *self.layers)}.values())

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(layer.size for layer in self.layers)

    def of(self, kind: LayerKind) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.kind is kind)


def parse_manifest(content: bytes) -> Manifest:
    """Raises BadModelFile where this is no model's manifest, Unsupported where it is one that
    this version can't read."""
    document = _object(content, MAX_MANIFEST, "manifest")
    _refuse_index(document)
    if document.get("schemaVersion") != 2:  # noqa: PLR2004 - the only version there is
        raise BadModelFile("the manifest has no schemaVersion 2")
    config = _layer(document.get("config"), "config")
    _check_config_type(config.media_type)
    listed = document.get("layers")
    if not isinstance(listed, list) or len(listed) > MAX_LAYERS:
        raise BadModelFile("the manifest has no usable list of layers")
    layers = tuple(_layer(entry, f"layer {number}") for number, entry in enumerate(listed, 1))
    _check_sizes_agree((config, *layers))
    _check_layers(layers)
    return Manifest(config, layers)


def parse_config(content: bytes, manifest: Manifest) -> tuple[ModelConfig, int]:
    """The config blob and when the model was made, in seconds since 1970 (0 where unknown)."""
    document = _object(content, MAX_CONFIG, "config")
    stated = document.get("config")
    if not isinstance(stated, dict):
        raise BadModelFile("the model's config blob holds no config")
    descriptor = document.get("descriptor")
    created = descriptor.get("created") if isinstance(descriptor, dict) else None
    metadata = stated.get("gguf")
    config = ModelConfig(
        format=_format(stated.get("format"), manifest.layers),
        quantization=_text(stated.get("quantization")),
        parameters=_text(stated.get("parameters")),
        architecture=_text(stated.get("architecture")),
        size=_text(stated.get("size")),
        context_size=_context_size(stated.get("context_size")),
        gguf={str(k): _text(v) for k, v in metadata.items()} if isinstance(metadata, dict) else {},
    )
    return config, timestamp(created)


def timestamp(text: object) -> int:
    """Seconds since 1970 of an RFC 3339 time; 0 where it is none."""
    if not isinstance(text, str):
        return 0
    cut = re.sub(r"(\.\d{1,6})\d*", r"\1", text)  # Go writes nanoseconds
    try:
        moment = datetime.fromisoformat(cut)
        return max(0, int(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()))
    except (ValueError, OverflowError):
        return 0


def _object(content: bytes, limit: int, what: str) -> dict[str, Json]:
    if len(content) > limit:
        raise BadModelFile(f"the {what} is larger than {limit // 1024 // 1024} MiB")
    if content.lstrip()[:1] == b"<":
        raise BadModelFile(f"a web page came instead of the {what}")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise BadModelFile(f"the {what} is not JSON") from error
    if not isinstance(document, dict):
        raise BadModelFile(f"the {what} is no JSON object")
    return document


def _refuse_index(document: Mapping[str, Json]) -> None:
    if str(document.get("mediaType")) in _INDEXES or "manifests" in document:
        raise BadModelFile(
            "this is an image index of several platforms, not a model",
            hint="name one of its manifests by digest",
        )


def _check_config_type(media_type: str) -> None:
    if media_type in _READABLE_CONFIGS:
        return
    if media_type in media.IMAGE_CONFIGS:
        raise BadModelFile("this is a container image, not a model")
    if media_type in _LATER_CONFIGS:
        raise Unsupported(
            f"models packaged as {media_type} can't be read yet",
            hint="package its GGUF file: runner package --gguf FILE NAME",
        )
    raise BadModelFile(f"this is an artifact of type {media_type!r}, not a model")


def _layer(entry: Json, what: str) -> Layer:
    if not isinstance(entry, dict):
        raise BadModelFile(f"the manifest's {what} is no descriptor")
    media_type, digest, size = entry.get("mediaType"), entry.get("digest"), entry.get("size")
    if not isinstance(media_type, str) or not media_type:
        raise BadModelFile(f"the manifest's {what} has no media type")
    if not isinstance(digest, str) or not is_digest(digest):
        raise BadModelFile(f"the manifest's {what} has no sha256 digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_BLOB:
        raise BadModelFile(f"the manifest's {what} has no usable size")
    annotations = entry.get("annotations") or {}
    if not isinstance(annotations, dict):
        raise BadModelFile(f"the manifest's {what} has annotations that are no object")
    path = annotations.get(media.FILE_PATH) or annotations.get(media.TITLE) or ""
    return Layer(LayerKind.of(media_type), media_type, digest, size, safe_path(path))


def safe_path(path: object) -> str:
    """A layer's path, which must stay inside the model's folder; raises BadModelFile."""
    if not isinstance(path, str):
        raise BadModelFile("a layer's path is no text")
    parts = PurePosixPath(path).parts
    outside = path.startswith("/") or ".." in parts or "\\" in path or re.match("[A-Za-z]:", path)
    unusable = len(path) > MAX_PATH or (path and not path.isprintable()) or path in {".", "./"}
    if outside or unusable:
        raise BadModelFile(f"a layer's path leads out of the model: {path[:80]!r}")
    return str(PurePosixPath(path)) if path else ""


def _check_sizes_agree(blobs: Sequence[Layer]) -> None:
    sizes: dict[str, int] = {}
    for blob in blobs:
        if sizes.setdefault(blob.digest, blob.size) != blob.size:
            raise BadModelFile(f"the manifest gives {blob.digest} two sizes")


def _check_layers(layers: Sequence[Layer]) -> None:
    kinds = [layer.kind for layer in layers]
    if LayerKind.GGUF not in kinds and LayerKind.SAFETENSORS not in kinds:
        raise BadModelFile("the artifact holds no model weights")
    for single, name in ((LayerKind.MMPROJ, "projectors"), (LayerKind.CHAT_TEMPLATE, "templates")):
        if kinds.count(single) > 1:
            raise BadModelFile(f"the artifact holds {kinds.count(single)} {name}, at most one fits")
    seen: set[str] = set()
    for layer in layers:
        # licences of several folders share a name, and are never unpacked
        if not layer.path or layer.kind is LayerKind.LICENSE:
            continue
        if layer.path in seen:
            raise BadModelFile(f"two layers share the path {layer.path!r}")
        seen.add(layer.path)


def _format(stated: Json, layers: Sequence[Layer]) -> ModelFormat:
    try:
        return ModelFormat(stated)
    except ValueError:
        if stated:
            raise Unsupported(f"models of the format {stated!r} can't be read yet") from None
    has_gguf = any(layer.kind is LayerKind.GGUF for layer in layers)
    return ModelFormat.GGUF if has_gguf else ModelFormat.SAFETENSORS


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""


def _context_size(value: Json) -> int | None:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return value if is_number and 0 < value <= MAX_CONTEXT else None
