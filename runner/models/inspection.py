"""All that is known of a model, in the store, at its registry or hub, as one JSON document."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runner.artifacts import media
from runner.artifacts.artifact import (
    MAX_CONFIG,
    Layer,
    Manifest,
    parse_config,
    parse_manifest,
    settle,
)
from runner.artifacts.formats import shown_format
from runner.artifacts.media import Dialect, LayerKind, Packing
from runner.errors import BadModelFile, CorruptTransfer, RunnerError
from runner.hubs.choice import choose
from runner.models.hub_files import PlannedFile, plan
from runner.models.listing import model_json
from runner.registry.client import RegistryClient
from runner.registry.digest import digest_of
from runner.registry.reference import Defaults, Reference, Source
from runner.store.store import ModelStore
from runner.store.stored import StoredModel, stored_model
from runner.weights.ggml import TENSOR_TYPES
from runner.weights.gguf import GgufInfo, read_gguf, tensor_size
from runner.weights.safetensors import SafetensorsInfo, read_safetensors

if TYPE_CHECKING:
    from runner.settings import Settings

Document = dict[str, object]

_DIALECTS = {
    Dialect.DOCKER_V01: "docker v0.1",
    Dialect.DOCKER_V02: "docker v0.2",
    Dialect.MODELPACK: "modelpack",
}
_ORIGINS = {
    media.SOURCE: "source",
    media.REVISION: "revision",
    media.BASE_NAME: "base",
    media.BASE_DIGEST: "base_digest",
}


def inspect_local(store: ModelStore, name: str) -> Document:
    """A model of the store, with what its weights' own headers say. What can't be read of them
    is told under `problems`. Raises ModelNotFound, BadReference, Conflict."""
    model = store.get(name)
    manifest = parse_manifest(store.manifest(model.id))
    problems: list[str] = []
    weights = _weights(store, settle(manifest, model.config.format), problems)
    links = {
        layer.digest: link.path
        for layer in manifest.layers
        if (link := store.blobs.links.get(layer.digest))
    }
    more = {"weights": weights, "linked": links, "problems": problems}
    return _document(model, manifest, store.defaults) | {k: v for k, v in more.items() if v}


def inspect_remote(store: ModelStore, reference: Reference, settings: Settings) -> Document:
    """A model at its registry, of which only the manifest and the config are fetched; at a hub,
    what a pull would bring into the store.

    Raises ModelNotFound, RegistryError, RegistryUnauthorized, CorruptTransfer, BadModelFile; for
    hubs also BadInput where several models fit, BadReference, Unavailable.
    """
    if reference.source is not Source.REGISTRY:
        return _at_hub(store, reference, settings)
    return _at_registry(reference, settings)


def _at_hub(store: ModelStore, reference: Reference, settings: Settings) -> Document:
    """Hubs list files: no artifact, and so no digest of one, exists before a pull."""
    from runner.hubs.repository import opened_repository

    with opened_repository(reference, settings, threading.Event()) as repository:
        listing = repository.listing
        choice = choose(listing.repository, listing.files, reference.tag)
        planned = plan(store, repository, choice)
    kinds, names = {entry.kind for entry in planned}, {entry.name for entry in planned}
    return {
        "name": reference.short,
        "page": listing.page,
        "commit": listing.commit,
        "modified": listing.modified,
        "format": shown_format(kinds, names).value,
        "size": sum(entry.file.size for entry in planned),
        "files": [_hub_file(entry) for entry in planned],
    }


def _hub_file(entry: PlannedFile) -> Document:
    """Of small files, hubs know no digest."""
    file = entry.file
    told: Document = {"kind": entry.kind.value, "path": file.path, "size": file.size}
    return told | ({"digest": file.digest} if file.digest else {})


def _at_registry(reference: Reference, settings: Settings) -> Document:
    from runner.models.transfer import model_manifest

    with RegistryClient(reference.registry, settings) as client:
        found = model_manifest(client, reference)
        manifest = parse_manifest(found.content)
        content = _config(client, reference.repository, manifest.config.digest)
    config, created = parse_config(content, manifest)
    tags = () if reference.digest else (reference.long,)
    model = stored_model(digest_of(found.content), manifest, config, created, tags)
    return _document(model, manifest, reference.defaults)


def _document(model: StoredModel, manifest: Manifest, defaults: Defaults) -> Document:
    layers = settle(manifest, model.config.format).layers
    origin = {told: manifest.annotations.get(key) for key, told in _ORIGINS.items()}
    return model_json(model, defaults) | {
        "dialect": _DIALECTS[manifest.dialect],
        "size": model.size,
        "pickles": model.config.pickles,
        "base": model.config.base,
        "origin": {told: value for told, value in origin.items() if value},
        "layers": [_layer(layer) for layer in layers],
    }


def _layer(layer: Layer) -> Document:
    return {
        "kind": layer.kind.value,
        "path": layer.path,
        "media_type": layer.media_type,
        "packing": layer.packing.value,
        "size": layer.size,
        "digest": layer.digest,
    }


def _config(client: RegistryClient, repository: str, digest: str) -> bytes:
    from runner.registry.source import read_range

    content = read_range(client.blob_source(repository, digest), MAX_CONFIG + 1)
    if len(content) > MAX_CONFIG:
        raise BadModelFile(
            f"the config {digest} is larger than a config may be",
            hint="it is no model's: check the name and tag",
        )
    if digest_of(content) != digest:
        raise CorruptTransfer(f"the config {digest} came with other bytes", hint="try again")
    return content


def _weights(store: ModelStore, manifest: Manifest, problems: list[str]) -> Document:
    """What all weights together hold; empty for formats without a header that we read."""
    first: GgufInfo | None = None
    parameters, count, sizes = 0, Counter[str](), Counter[str]()
    for layer in manifest.layers:
        try:
            info = _header(store, layer)
        except RunnerError as error:
            problems.append(f"{layer.path or layer.digest}: {error.message}")
            continue
        if info is None:
            continue
        first = first or (info if isinstance(info, GgufInfo) else None)
        parameters += info.parameters
        for kind, size in _tensors(info):
            count[kind] += 1
            sizes[kind] += size
    if not count:
        return {}
    types = {kind: {"tensors": count[kind], "bytes": sizes[kind]} for kind in sorted(count)}
    return _stated(first) | {
        "parameters": parameters,
        "tensors": count.total(),
        "types": types,
    }


def _header(store: ModelStore, layer: Layer) -> GgufInfo | SafetensorsInfo | None:
    """None for what has no header. Raises BadModelFile, and Conflict where the blob is lost."""
    is_adapter = layer.kind is LayerKind.LORA
    if layer.packing is not Packing.RAW:
        return None
    if layer.kind is LayerKind.SAFETENSORS or (is_adapter and layer.path.endswith(".safetensors")):
        return read_safetensors(store.blobs.require(layer.digest, layer.size))
    if layer.kind is LayerKind.GGUF or is_adapter:
        return read_gguf(store.blobs.require(layer.digest, layer.size))
    return None


def _tensors(info: GgufInfo | SafetensorsInfo) -> Iterator[tuple[str, int]]:
    """Each tensor's type and bytes."""
    if isinstance(info, SafetensorsInfo):
        yield from ((tensor.dtype, tensor.size) for tensor in info.tensors)
        return
    for tensor in info.tensors:
        kind = TENSOR_TYPES.get(tensor.type)
        yield kind.name if kind else f"type {tensor.type}", tensor_size(tensor)


def _stated(info: GgufInfo | None) -> Document:
    if info is None:
        return {}
    return {
        "architecture": info.architecture,
        "quantization": info.quantization,
        "context_length": info.context_length,
    }
