"""What a model artifact is: its manifest and config, read and checked. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import msgspec

from runner.artifacts import media
from runner.artifacts.documents import (
    Json,
    inner_object,
    json_object,
    text_of,
    texts_of,
    whole_number,
)
from runner.artifacts.formats import PLAIN_FORMATS, shown_format
from runner.artifacts.image_index import is_index, refused
from runner.artifacts.laid_out import laid_out
from runner.artifacts.layer_paths import check_paths, safe_path
from runner.artifacts.media import WEIGHT_KINDS, Dialect, LayerKind, ModelFormat, Packing
from runner.errors import BadModelFile
from runner.registry.digest import is_digest
from runner.weights.pickles import pickled_names

MAX_MANIFEST = 4 * 1024 * 1024
MAX_CONFIG = 4 * 1024 * 1024
MAX_LAYERS = 10_000
MAX_BLOB = 2**50
MAX_CONTEXT = 2**31 - 1
_METADATA_NAMES = {ModelFormat.DDUF: "diffusers"}
_NAMED_FORMATS = {
    LayerKind.GGUF: ModelFormat.GGUF,
    LayerKind.SAFETENSORS: ModelFormat.SAFETENSORS,
    LayerKind.DDUF: ModelFormat.DDUF,
}
_SUFFIXES = {model_format: model_format.value for model_format in _NAMED_FORMATS.values()} | {
    ModelFormat.ONNX: "onnx"
}
_OTHER_NAMES = {
    LayerKind.FILE: "config.json",
    LayerKind.DOC: "README.md",
    LayerKind.LICENSE: "LICENSE",
    LayerKind.CHAT_TEMPLATE: "chat_template.jinja",
}


class ModelConfig(msgspec.Struct, frozen=True):
    """What a config blob says of a model; empty where it says nothing. A struct, no dataclass: the
    list of ten thousand models is read in half of the time.

    `metadata` is what the weights' own header says, as texts. `base` names the model that an
    adapter belongs to, and `pickles` says that loading the weights may run code in them.
    """

    format: ModelFormat
    quantization: str = ""
    parameters: str = ""
    architecture: str = ""
    size: str = ""
    context_size: int | None = None
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)
    base: str = ""
    pickles: bool = False

    def to_json(self) -> dict[str, object]:
        """As in Docker Model Runner's config blob: what is empty is left out."""
        fields: dict[str, object] = {
            "format": self.format.value,
            "quantization": self.quantization,
            "parameters": self.parameters,
            "architecture": self.architecture,
            "size": self.size,
            _METADATA_NAMES.get(self.format, self.format.value): dict(self.metadata),
            "context_size": self.context_size,
            "base": self.base,
            "pickles": self.pickles,
        }
        return {name: value for name, value in fields.items() if value}


@dataclass(frozen=True, slots=True)
class Layer:
    """One blob of a model. `size` is bytes; `path` is relative and safe, empty if not named.

    Archives have no path: the files in them lie in the model's own folder.
    """

    kind: LayerKind
    media_type: str
    digest: str
    size: int
    path: str = ""
    packing: Packing = Packing.RAW


@dataclass(frozen=True, slots=True)
class Manifest:
    """A checked manifest; `config` is the config blob's descriptor."""

    config: Layer
    layers: tuple[Layer, ...]
    dialect: Dialect = Dialect.DOCKER_V01
    annotations: Mapping[str, str] = field(default_factory=dict)

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
    """Raises BadModelFile where this is no model's manifest: the message says what it is instead,
    the hint of an index lists its platforms."""
    document = json_object(content, MAX_MANIFEST, "manifest")
    if is_index(document):
        raise refused(content)
    if document.get("schemaVersion") != 2:  # noqa: PLR2004 - the only version there is
        raise BadModelFile("the manifest has no schemaVersion 2")
    config = _descriptor(_object(document.get("config"), "config"), "config")
    dialect = _dialect(config.media_type, text_of(document.get("artifactType")))
    listed = document.get("layers")
    if not isinstance(listed, list) or len(listed) > MAX_LAYERS:
        raise BadModelFile("the manifest has no usable list of layers")
    layers = tuple(
        _layer(_object(entry, f"layer {number}"), f"layer {number}", dialect)
        for number, entry in enumerate(listed, 1)
    )
    _check_sizes_agree((config, *layers))
    _check_layers(layers, dialect)
    return Manifest(config, layers, dialect, texts_of(document.get("annotations")))


def parse_config(content: bytes, manifest: Manifest) -> tuple[ModelConfig, int]:
    """The config blob and when the model was made, in seconds since 1970 (0 where unknown).

    What the layers show goes before what the config states; its digests of contents count
    nowhere. Raises BadModelFile.
    """
    document = json_object(content, MAX_CONFIG, "config")
    is_modelpack = manifest.dialect is Dialect.MODELPACK
    if not is_modelpack and not isinstance(document.get("config"), dict):
        raise BadModelFile("the model's config blob holds no config")
    stated = inner_object(document, "config")
    descriptor = inner_object(document, "descriptor")
    read = _modelpack_config if is_modelpack else _docker_config
    config = read(stated, _format(stated.get("format"), manifest.layers))
    config = msgspec.structs.replace(
        config,
        base=manifest.annotations.get(media.BASE_NAME) or config.base,
        pickles=config.pickles or _has_pickles(manifest),
    )
    return config, timestamp(descriptor.get("createdAt" if is_modelpack else "created"))


def settle(manifest: Manifest, model_format: ModelFormat) -> Manifest:
    """The manifest with what only its config tells: which weights ModelPack's raw layers are, and
    names for those that have none, such as `model.gguf`. Every other layer is as it was."""
    kinds = {named: kind for kind, named in _NAMED_FORMATS.items()}
    kind = kinds.get(model_format, LayerKind.WEIGHT)
    told = [
        replace(layer, kind=kind) if layer.kind is LayerKind.WEIGHT and not layer.path else layer
        for layer in manifest.layers
    ]
    if manifest.dialect is Dialect.MODELPACK:
        told = list(_named(told, model_format))
    return replace(manifest, layers=tuple(told))


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


def _dialect(config_type: str, artifact_type: str) -> Dialect:
    dialect = media.dialect_of(config_type, artifact_type)
    if dialect:
        return dialect
    if config_type in media.IMAGE_CONFIGS and not artifact_type:
        raise BadModelFile("this is a container image, not a model")
    shown = artifact_type or config_type
    raise BadModelFile(f"this is an artifact of type {shown[:200]!r}, not a model")


def _object(entry: Json, what: str) -> Mapping[str, Json]:
    if not isinstance(entry, dict):
        raise BadModelFile(f"the manifest's {what} is no descriptor")
    return entry


def _descriptor(entry: Mapping[str, Json], what: str) -> Layer:
    """What every descriptor says, of no kind yet."""
    media_type, digest, size = entry.get("mediaType"), entry.get("digest"), entry.get("size")
    if not isinstance(media_type, str) or not media_type:
        raise BadModelFile(f"the manifest's {what} has no media type")
    if not isinstance(digest, str) or not is_digest(digest):
        raise BadModelFile(f"the manifest's {what} has no sha256 digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_BLOB:
        raise BadModelFile(f"the manifest's {what} has no usable size")
    return Layer(LayerKind.OTHER, media_type, digest, size)


def _layer(entry: Mapping[str, Json], what: str, dialect: Dialect) -> Layer:
    found, stated = _descriptor(entry, what), _stated_path(entry, what)
    kind, packing = media.kind_of_layer(found.media_type)
    if packing is not Packing.RAW:
        safe_path("" if stated == "." else str(stated).rstrip("/"))
        return replace(found, kind=kind, packing=packing)
    path = safe_path(stated)
    kind, _ = media.kind_of_layer(found.media_type, path)
    if kind is LayerKind.OTHER and path and dialect is Dialect.MODELPACK:
        kind = media.kind_of_file(path)
    return replace(found, kind=kind, path=path)


def _stated_path(entry: Mapping[str, Json], what: str) -> Json:
    annotations = entry.get("annotations") or {}
    if not isinstance(annotations, dict):
        raise BadModelFile(f"the manifest's {what} has annotations that are no object")
    stated = (annotations.get(name) for name in media.PATH_ANNOTATIONS)
    return next((path for path in stated if path), "")


def _check_sizes_agree(blobs: Sequence[Layer]) -> None:
    sizes: dict[str, int] = {}
    for blob in blobs:
        if sizes.setdefault(blob.digest, blob.size) != blob.size:
            raise BadModelFile(f"the manifest gives {blob.digest} two sizes")


def _check_layers(layers: Sequence[Layer], dialect: Dialect) -> None:
    """Docker's v0.1 knows a projector and a template by their kind alone. Paths may be alike where
    the files are laid out under other names, or not at all."""
    _check_weights(layers, dialect)
    if dialect is Dialect.DOCKER_V01:
        _check_singles(layers)
    if dialect is Dialect.DOCKER_V02:
        _check_named(layers)
    check_paths(_names(layers, dialect))


def _names(layers: Sequence[Layer], dialect: Dialect) -> Iterator[str]:
    """Under which names the files are laid out, as far as the manifest says them."""
    raw = [(layer.kind, layer.path) for layer in layers if layer.packing is Packing.RAW]
    return filter(None, laid_out(raw, dialect))


def _check_weights(layers: Sequence[Layer], dialect: Dialect) -> None:
    """A folder's weights may be of a kind that its writer had no type for."""
    accepted = WEIGHT_KINDS | ({LayerKind.FILE} if dialect is Dialect.DOCKER_V02 else set())
    packed = any(layer.packing is not Packing.RAW for layer in layers)
    if not packed and not any(layer.kind in accepted for layer in layers):
        raise BadModelFile("the artifact holds no model weights")


def _check_singles(layers: Sequence[Layer]) -> None:
    kinds = [layer.kind for layer in layers]
    for single, name in ((LayerKind.MMPROJ, "projectors"), (LayerKind.CHAT_TEMPLATE, "templates")):
        if kinds.count(single) > 1:
            raise BadModelFile(f"the artifact holds {kinds.count(single)} {name}, at most one fits")


def _check_named(layers: Sequence[Layer]) -> None:
    for number, layer in enumerate(layers, 1):
        laid_out = layer.kind not in {LayerKind.LICENSE, LayerKind.OTHER}
        if laid_out and layer.packing is Packing.RAW and not layer.path:
            raise BadModelFile(f"the manifest's layer {number} does not say where its file belongs")


def _docker_config(stated: Mapping[str, Json], model_format: ModelFormat) -> ModelConfig:
    metadata = stated.get(_METADATA_NAMES.get(model_format, model_format.value))
    return ModelConfig(
        format=model_format,
        quantization=text_of(stated.get("quantization")),
        parameters=text_of(stated.get("parameters")),
        architecture=text_of(stated.get("architecture")),
        size=text_of(stated.get("size")),
        context_size=whole_number(stated.get("context_size"), MAX_CONTEXT),
        metadata=texts_of(metadata),
        base=text_of(stated.get("base")),
        pickles=stated.get("pickles") is True,
    )


def _modelpack_config(stated: Mapping[str, Json], model_format: ModelFormat) -> ModelConfig:
    quantization, precision = stated.get("quantization"), stated.get("precision")
    return ModelConfig(
        format=model_format,
        quantization=text_of(quantization) or text_of(precision),
        parameters=text_of(stated.get("paramSize")),
        architecture=text_of(stated.get("architecture")),
    )


def _format(stated: Json, layers: Sequence[Layer]) -> ModelFormat:
    """What the config states, unless the layers show otherwise."""
    shown = shown_format({layer.kind for layer in layers}, {layer.path for layer in layers})
    try:
        named = ModelFormat(text_of(stated).lower())
    except ValueError:
        return shown
    if named is ModelFormat.DIFFUSERS and shown is ModelFormat.SAFETENSORS:
        return named  # its model_index.json may lie in an archive
    return shown if named in PLAIN_FORMATS and shown in PLAIN_FORMATS else named


def _has_pickles(manifest: Manifest) -> bool:
    is_warned = manifest.annotations.get(media.PICKLES) == "true"
    return is_warned or bool(pickled_names(_names(manifest.layers, manifest.dialect)))


def _named(layers: Sequence[Layer], model_format: ModelFormat) -> Iterator[Layer]:
    """Gives every raw layer without a path one that no other has."""
    taken = {layer.path.partition("/")[0] for layer in layers}
    count = sum(_lacks_name(layer) and layer.kind in WEIGHT_KINDS for layer in layers)
    number = 0
    for layer in layers:
        if not _lacks_name(layer):
            yield layer
            continue
        is_weight = layer.kind in WEIGHT_KINDS
        number += is_weight
        other = _OTHER_NAMES.get(layer.kind, "file")
        name = _weights_name(model_format, number, count) if is_weight else other
        while name in taken:
            name = f"_{name}"
        taken.add(name)
        yield replace(layer, path=name)


def _lacks_name(layer: Layer) -> bool:
    return not layer.path and layer.packing is Packing.RAW


def _weights_name(model_format: ModelFormat, number: int, count: int) -> str:
    suffix = _SUFFIXES.get(model_format, "bin")
    return f"model.{suffix}" if count == 1 else f"model-{number:05d}-of-{count:05d}.{suffix}"
