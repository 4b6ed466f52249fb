"""Pull and push: models between the store and a registry. Sync; the daemon calls it in threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from runner.errors import BadInput, BadReference, Conflict, CorruptTransfer, ShuttingDown
from runner.models.artifact import MAX_CONFIG, Layer, Manifest, parse_config, parse_manifest
from runner.models.progress import (
    LayerProgress,
    Progress,
    ProgressEvent,
    ProgressKind,
    TransferMode,
    silent,
)
from runner.models.store import ModelStore, StoredModel
from runner.registry.client import RegistryClient
from runner.registry.digest import digest_of
from runner.registry.media import OCI_MANIFEST
from runner.registry.reference import Reference

if TYPE_CHECKING:
    from runner.settings import Settings

_ATTEMPTS = 3


def pull(
    store: ModelStore,
    reference: Reference,
    settings: Settings,
    progress: Progress = silent,
    cancelled: threading.Event | None = None,
) -> StoredModel:
    """Brings a model into the store, fetching only what is not there.

    The tag appears once every byte is in and checked; a pull that fails or is `cancelled`
    (ShuttingDown) leaves no tag and no wrong blob. Raises ModelNotFound, RegistryError,
    RegistryUnauthorized, CorruptTransfer, BadModelFile, Unsupported, DiskFull.
    """
    stop = cancelled or threading.Event()
    with RegistryClient(reference.registry, settings, cancelled=stop) as client:
        found = client.get_manifest(reference)
        manifest = parse_manifest(found.content)
        store.blobs.sweep()
        for attempt in range(_ATTEMPTS):
            config = _config(store, client, reference, manifest)
            fetched = _fetch_missing(store, client, reference, manifest, progress, stop)
            try:
                model = store.commit(found.content, config, reference)
            except Conflict:
                if attempt == _ATTEMPTS - 1:
                    raise
                continue  # another process removed a model that shared a file of this one
            _tell_pulled(progress, reference, model, fetched)
            return model
    raise AssertionError("the last attempt returns or raises")


def push(
    store: ModelStore,
    model: str | Reference,
    settings: Settings,
    progress: Progress = silent,
    target: Reference | None = None,
    cancelled: threading.Event | None = None,
) -> str:
    """Sends a model to the registry its name says, or to `target`; returns its digest.

    Blobs that the registry holds are not sent; the manifest goes last. Raises ModelNotFound,
    BadInput where no name says where to, RegistryError, RegistryUnauthorized.
    """
    stored = store.get(model)
    goal = target or _goal(store, model, stored)
    content = store.manifest(stored.id)
    manifest = parse_manifest(content)
    with RegistryClient(goal.registry, settings, cancelled=cancelled) as client:
        for blob in manifest.blobs:
            path = store.blobs.path(blob.digest)
            report = _layer_progress(progress, TransferMode.PUSH, manifest, blob)
            if store.blobs.size(blob.digest) != blob.size:
                raise Conflict(
                    f"the model's file {blob.digest} is missing in the store",
                    hint="pull or package the model again",
                )
            client.upload_blob(goal.repository, path, blob.digest, report)
            report(blob.size)
        digest = client.put_manifest(goal, content, OCI_MANIFEST)
    message = f"Pushed {goal.short} ({digest})"
    progress(ProgressEvent(ProgressKind.SUCCESS, TransferMode.PUSH, message, total=manifest.size))
    return digest


def _config(
    store: ModelStore, client: RegistryClient, reference: Reference, manifest: Manifest
) -> bytes:
    """Small, and read before the long layers: a model we can't use costs no gigabytes."""
    wanted = manifest.config
    if store.blobs.size(wanted.digest) == wanted.size:
        content = store.blobs.read(wanted.digest)
    else:
        content = b"".join(_capped(client, reference, wanted))
        if digest_of(content) != wanted.digest:
            raise CorruptTransfer(f"the config {wanted.digest} came with other bytes")
    parse_config(content, manifest)
    return content


def _capped(client: RegistryClient, reference: Reference, wanted: Layer) -> list[bytes]:
    limit = min(wanted.size, MAX_CONFIG)
    chunks: list[bytes] = []
    for chunk in client.blob(reference.repository, wanted.digest):
        chunks.append(chunk)
        limit -= len(chunk)
        if limit < 0:
            raise CorruptTransfer(f"the config {wanted.digest} is larger than announced")
    return chunks


def _fetch_missing(
    store: ModelStore,
    client: RegistryClient,
    reference: Reference,
    manifest: Manifest,
    progress: Progress,
    cancelled: threading.Event,
) -> int:
    """How many layers came over the network."""
    layers = {layer.digest: layer for layer in manifest.layers}
    missing = [layers[digest] for digest in store.missing(manifest) if digest in layers]
    store.blobs.require_space(sum(layer.size for layer in missing))
    for layer in layers.values():
        report = _layer_progress(progress, TransferMode.PULL, manifest, layer)
        if layer in missing:
            _fetch(store, client, reference, layer, report, cancelled)
        report(layer.size)
    return len(missing)


def _fetch(
    store: ModelStore,
    client: RegistryClient,
    reference: Reference,
    layer: Layer,
    report: LayerProgress,
    cancelled: threading.Event,
) -> None:
    with store.blob_writer(layer.digest, layer.size) as writer:
        for chunk in client.blob(reference.repository, layer.digest):
            if cancelled.is_set():
                raise ShuttingDown("the pull was cancelled")
            writer.write(chunk)
            report(writer.written)


def _goal(store: ModelStore, model: str | Reference, stored: StoredModel) -> Reference:
    names = {tag: store.reference(tag) for tag in stored.tags}
    try:
        asked = model if isinstance(model, Reference) else store.reference(model)
    except BadReference:
        asked = None  # an ID
    if asked and asked.long in names:
        return asked
    if len(names) == 1:
        return next(iter(names.values()))
    raise BadInput(
        f"{model} does not say where to push",
        hint="push it by one of its names: `runner ls` shows them",
    )


def _layer_progress(
    progress: Progress, mode: TransferMode, manifest: Manifest, layer: Layer
) -> LayerProgress:
    return LayerProgress(progress, mode, total=manifest.size, layer=layer.digest, size=layer.size)


def _tell_pulled(
    progress: Progress, reference: Reference, model: StoredModel, fetched: int
) -> None:
    what = f"{fetched} layers fetched" if fetched else "all layers were here"
    message = f"Pulled {reference.short} ({model.short_id}): {what}"
    progress(ProgressEvent(ProgressKind.SUCCESS, TransferMode.PULL, message, total=model.size))
