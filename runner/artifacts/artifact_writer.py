"""A model's manifest and config, byte for byte as Docker Model Runner writes them. Pure.

Its Go program fixes the bytes: the order of fields, sorted maps, `<`, `>` and `&` escaped in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath

from runner.artifacts import media
from runner.artifacts.artifact import MAX_CONTEXT, ModelConfig
from runner.artifacts.laid_out import laid_out
from runner.artifacts.layer_paths import check_paths, safe_path
from runner.artifacts.media import Dialect, LayerKind
from runner.errors import BadInput, BadModelFile
from runner.registry.digest import digest_of
from runner.registry.media import OCI_MANIFEST

FILE_MODE = 0o644
_GO_ESCAPES = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_TELLING_SUFFIXES = {
    LayerKind.GGUF: ".gguf",
    LayerKind.SAFETENSORS: ".safetensors",
    LayerKind.DDUF: ".dduf",
    LayerKind.MMPROJ: ".mmproj",
    LayerKind.CHAT_TEMPLATE: ".jinja",
    LayerKind.LICENSE: ".LICENSE",
}
"""ModelPack has one media type for all weights and one for their configs: names tell them apart."""


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file that is already in the store and becomes a layer; `name` is its path in the model."""

    kind: LayerKind
    name: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What an artifact is made of, weights first. `annotations` are the manifest's own; `created`
    (seconds since 1970) stands for every time in it."""

    config: ModelConfig
    files: tuple[PackedFile, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)
    created: int = 0


@dataclass(frozen=True, slots=True)
class Packed:
    """An artifact's two documents, whose digests name them."""

    manifest: bytes
    config: bytes


def write_artifact(contents: Contents, dialect: Dialect) -> Packed:
    """The documents of a model; the same contents give the same bytes.

    Raises BadInput for file names that clash or lead out of the model, and for what a dialect has
    no words for: ModelPack none for a context size and for adapters.
    """
    _check(contents, dialect)
    is_modelpack = dialect is Dialect.MODELPACK
    config = go_json(_modelpack_config(contents) if is_modelpack else _docker_config(contents))
    manifest: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": media.ARTIFACT_CNCF if is_modelpack else "",
        "config": {
            "mediaType": dialect.value,
            "size": len(config),
            "digest": digest_of(config),
        },
        "layers": [_layer(file, dialect, contents.created) for file in contents.files],
        "annotations": _annotations(contents, dialect),
    }
    return Packed(go_json({name: value for name, value in manifest.items() if value}), config)


def go_json(document: object) -> bytes:
    """JSON with the escapes of Go's encoder."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    for character, escape in _GO_ESCAPES.items():
        text = text.replace(character, escape)
    return text.encode("utf-8", "replace")


def _docker_config(contents: Contents) -> dict[str, object]:
    return {
        "config": contents.config.to_json(),
        "descriptor": {"created": _rfc3339(contents.created)},
        "rootfs": {"type": "rootfs", "diff_ids": [file.digest for file in contents.files]},
    }


def _modelpack_config(contents: Contents) -> dict[str, object]:
    config = contents.config
    return {
        "descriptor": _filled(createdAt=_rfc3339(contents.created), family=config.architecture),
        "modelfs": {"type": "layers", "diffIds": [file.digest for file in contents.files]},
        "config": _filled(
            architecture=config.architecture,
            format=config.format.value,
            paramSize=config.parameters.lower(),
            quantization=config.quantization,
        ),
    }


def _filled(**fields: str) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value}


def _annotations(contents: Contents, dialect: Dialect) -> dict[str, str]:
    """Sorted. ModelPack's config has no room for the warning about pickles."""
    annotations = dict(contents.annotations)
    if contents.config.pickles and dialect is Dialect.MODELPACK:
        annotations[media.PICKLES] = "true"
    return dict(sorted(annotations.items()))


def _layer(file: PackedFile, dialect: Dialect, created: int) -> dict[str, object]:
    path = _path(file, dialect)
    metadata = {
        "name": PurePosixPath(path).name,
        "mode": FILE_MODE,
        "uid": 0,
        "gid": 0,
        "size": file.size,
        "mtime": _rfc3339(created),
        "typeflag": 0,
    }
    annotations = {
        media.FILE_PATH: path,
        media.FILE_METADATA: go_json(metadata).decode(),
        media.MEDIATYPE_UNTESTED: "false",
    }
    return {
        "mediaType": media.layer_type(file.kind, dialect),
        "size": file.size,
        "digest": file.digest,
        "annotations": dict(sorted(annotations.items())),
    }


def _path(file: PackedFile, dialect: Dialect) -> str:
    """Where the file lies in the model: under its name, made telling where nothing else tells."""
    media_type = media.layer_type(file.kind, dialect)
    names = (file.name, file.name + _TELLING_SUFFIXES.get(file.kind, ""))
    telling = (name for name in names if media.kind_of_layer(media_type, name)[0] is file.kind)
    return next(telling, file.name)


def _check(contents: Contents, dialect: Dialect) -> None:
    context_size = contents.config.context_size
    if context_size is not None and not 0 < context_size <= MAX_CONTEXT:
        raise BadInput(f"a context size of {context_size} is out of range")
    if dialect is Dialect.MODELPACK:
        _check_modelpack(contents)
    _check_names(contents.files, dialect)


def _check_modelpack(contents: Contents) -> None:
    hint = "package it in Docker's format: --format docker"
    if contents.config.context_size is not None:
        raise BadInput("ModelPack has no word for a context size", hint=hint)
    if contents.config.base or any(file.kind is LayerKind.LORA for file in contents.files):
        raise BadInput("ModelPack has no word for adapters", hint=hint)


def _check_names(files: Sequence[PackedFile], dialect: Dialect) -> None:
    """Names may be alike where the files are laid out under others, or not at all."""
    named = [(file.kind, _path(file, dialect)) for file in files]
    try:
        for file in files:
            safe_path(file.name)
        check_paths(filter(None, laid_out(named, dialect)))
    except BadModelFile as error:
        raise BadInput(
            error.message.replace("layer", "file"), hint="rename one of the files"
        ) from error


def _rfc3339(seconds: int) -> str:
    try:
        moment = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise BadInput(f"{seconds} is not a time in seconds since 1970") from error
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
