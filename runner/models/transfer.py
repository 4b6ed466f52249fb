"""Pull and push: models between the store and a registry. Sync; the daemon calls it in threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from runner.artifacts.artifact import (
    MAX_CONFIG,
    Layer,
    Manifest,
    parse_config,
    parse_manifest,
)
from runner.artifacts.image_index import pick_manifest
from runner.errors import (
    BadInput,
    BadModelFile,
    BadReference,
    DiskFull,
    RegistryError,
    ShuttingDown,
)
from runner.models.progress import (
    LayerProgress,
    Progress,
    ProgressEvent,
    ProgressKind,
    TransferMode,
    silent,
    summed,
)
from runner.registry.client import RawManifest, RegistryClient
from runner.registry.media import DOCKER_INDEX, OCI_INDEX, OCI_MANIFEST
from runner.registry.reference import Reference, Source
from runner.store.attempts import Attempts
from runner.store.downloads import Wanted
from runner.store.store import ModelStore
from runner.store.stored import StoredModel

if TYPE_CHECKING:
    from runner.settings import Settings

GOES_ON = "the same command goes on from here"
PUSHED_AT_ONCE = 4
MOUNTS_TRIED = 3
_TICK = 0.1


def pull(
    store: ModelStore,
    reference: Reference,
    settings: Settings,
    progress: Progress = silent,
    cancelled: threading.Event | None = None,
    *,
    token: str = "",
) -> StoredModel:
    """Brings a model into the store, fetching only what is not there.

    The tag appears once every byte is in and checked. A pull that fails or is `cancelled`
    (ShuttingDown) leaves no tag and no wrong blob, and the next one goes on where it ended.
    `token` is for a model hub, in place of this process's own. Raises ModelNotFound, RegistryError,
    RegistryUnauthorized, CorruptTransfer, BadModelFile, Unsupported, DiskFull.
    """
    stop = cancelled or threading.Event()
    if reference.source is not Source.REGISTRY:
        from runner.models.hub_transfer import pull_from_hub

        return pull_from_hub(store, reference, settings, progress, stop, token=token)
    with RegistryClient(reference.registry, settings, cancelled=stop) as client:
        found = model_manifest(client, reference)
        return _Pull(store, client, reference, found, summed(progress), stop).run()


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
    BadInput where no name says where to, RegistryError, RegistryUnauthorized, ShuttingDown.
    """
    stored = store.get(model)
    goal = target or _goal(store, model, stored)
    require_registry(goal)
    content = store.manifest(stored.id)
    manifest = parse_manifest(content)
    _require_whole(store, manifest)
    stop = threading.Event()
    with RegistryClient(goal.registry, settings, cancelled=stop) as client:
        others = _repositories_beside(store, goal)
        report = summed(progress)

        def send(blob: Layer) -> None:
            told = _until(stop, _layer_progress(report, TransferMode.PUSH, manifest, blob))
            path = store.blobs.path(blob.digest)
            beside = others.get(blob.digest, ())
            client.upload_blob(goal.repository, path, blob.digest, told, beside)
            told(blob.size)

        _all_at_once(send, manifest.blobs, stop, cancelled or threading.Event())
        digest = client.put_manifest(goal, content, OCI_MANIFEST)
    message = f"Pushed {goal.short} ({digest})"
    progress(ProgressEvent(ProgressKind.SUCCESS, TransferMode.PUSH, message, total=manifest.size))
    return digest


def require_registry(goal: Reference) -> None:
    """Raises BadInput for a name that nothing can be pushed to."""
    if goal.source is not Source.REGISTRY:
        raise BadInput(
            f"{goal.short} is on {goal.registry}, which is no OCI registry",
            hint="use a name of a registry; a model here gets one by "
            "`runner tag MODEL REGISTRY/NAME`",
        )


class _Pull:
    """One pull, from its manifest on."""

    def __init__(
        self,
        store: ModelStore,
        client: RegistryClient,
        reference: Reference,
        found: RawManifest,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._store = store
        self._client = client
        self._reference = reference
        self._found = found
        self._manifest = parse_manifest(found.content)
        self._progress = progress
        self._stop = stop

    def run(self) -> StoredModel:
        size = self._manifest.config.size
        if size > MAX_CONFIG:
            raise BadModelFile(
                f"the model's config has {size} bytes, which is too many",
                hint="it is no model's: check the name and tag",
            )
        self._store.blobs.sweep()
        self._store.downloads.require_space(self._wanted(self._manifest.blobs))
        model, fetched = self._entered()
        tell_pulled(self._progress, self._reference, model, fetched)
        return model

    def _entered(self) -> tuple[StoredModel, int]:
        """The model, and how many layers came over the network in the last attempt."""
        attempts = Attempts()
        while True:
            config, fetched = self._config(), self._layers()
            with attempts.one():
                return self._store.commit(self._found.content, config, self._reference), fetched

    def _config(self) -> bytes:
        """Small, and read before the long layers: a model we can't use costs no gigabytes."""
        wanted = self._manifest.config
        self._fetch((wanted,), lambda digest, done: None)
        content = self._store.blobs.read(wanted.digest)
        parse_config(content, self._manifest)
        return content

    def _layers(self) -> int:
        """How many layers came over the network."""
        layers = {layer.digest: layer for layer in self._manifest.layers}
        missing = set(self._store.missing(self._manifest)).intersection(layers)
        reports = {
            digest: _layer_progress(self._progress, TransferMode.PULL, self._manifest, layer)
            for digest, layer in layers.items()
        }
        self._fetch(tuple(layers.values()), lambda digest, done: reports[digest](done))
        return len(missing)

    def _fetch(self, layers: Sequence[Layer], told: Callable[[str, int], None]) -> None:
        try:
            self._store.downloads.fetch(self._wanted(layers), told, self._stop)
        except (RegistryError, DiskFull) as error:
            if any(self._store.downloads.has_begun(layer.digest) for layer in layers):
                error.hint = "; ".join(filter(None, (error.hint, GOES_ON)))
            raise

    def _wanted(self, layers: Sequence[Layer]) -> list[Wanted]:
        repository = self._reference.repository
        return [
            Wanted(layer.digest, layer.size, self._client.blob_source(repository, layer.digest))
            for layer in layers
        ]


def tell_pulled(progress: Progress, reference: Reference, model: StoredModel, fetched: int) -> None:
    """The last word of a pull; `fetched` counts the layers that came over the network."""
    layers = "1 layer" if fetched == 1 else f"{fetched} layers"
    what = f"{layers} fetched" if fetched else "all layers were here"
    message = f"Pulled {reference.short} ({model.short_id}): {what}"
    progress(ProgressEvent(ProgressKind.SUCCESS, TransferMode.PULL, message, total=model.size))


def model_manifest(client: RegistryClient, reference: Reference) -> RawManifest:
    """The manifest itself; of an index the one that is a model."""
    from dataclasses import replace

    found = client.get_manifest(reference)
    if found.media_type in {OCI_INDEX, DOCKER_INDEX}:
        return client.get_manifest(replace(reference, tag="", digest=pick_manifest(found.content)))
    return found


def _require_whole(store: ModelStore, manifest: Manifest) -> None:
    for blob in manifest.blobs:
        store.blobs.require(blob.digest, blob.size)


def _all_at_once(
    send: Callable[[Layer], None],
    blobs: Sequence[Layer],
    stop: threading.Event,
    cancelled: threading.Event,
) -> None:
    """Several at a time; the first that fails ends the others, as `cancelled` does.

    Then it does not wait for those that hang in a request, nor does the process's end.
    """
    waiting, ended = SimpleQueue[Layer](), SimpleQueue[Exception | None]()
    for blob in blobs:
        waiting.put(blob)
    for _ in range(min(PUSHED_AT_ONCE, len(blobs))):
        work = (send, waiting, ended, stop)
        threading.Thread(target=_send_waiting, args=work, name="push", daemon=True).start()
    try:
        for _ in blobs:
            _await_one(ended, cancelled)
    except BaseException:
        stop.set()
        raise


def _send_waiting(
    send: Callable[[Layer], None],
    waiting: SimpleQueue[Layer],
    ended: SimpleQueue[Exception | None],
    stop: threading.Event,
) -> None:
    """What one thread does: it tells of each blob how it has ended."""
    while not stop.is_set():
        try:
            send(waiting.get_nowait())
        except Empty:
            return
        except Exception as error:
            ended.put(error)
        else:
            ended.put(None)


def _await_one(ended: SimpleQueue[Exception | None], cancelled: threading.Event) -> None:
    """Until one more blob has ended; raises what it failed with, or ShuttingDown."""
    waits = True
    while waits:
        error = None
        with suppress(Empty):
            error = ended.get(timeout=_TICK)
            waits = False
        if error:
            raise error
        if cancelled.is_set():
            raise ShuttingDown("the push was cancelled")


def _until(stop: threading.Event, report: Callable[[int], None]) -> Callable[[int], None]:
    """A report that ends the transfer it belongs to once `stop` is set."""

    def told(current: int) -> None:
        if stop.is_set():
            raise ShuttingDown("the push was cancelled")
        report(current)

    return told


def _repositories_beside(store: ModelStore, goal: Reference) -> dict[str, tuple[str, ...]]:
    """Where the same registry may hold a blob already, by its digest: in the repositories of all
    models here that have it, this one under its other names too."""
    found: dict[str, dict[str, None]] = {}
    for entry in store.index.entries():
        names = [store.reference(tag) for tag in entry.tags]
        there = [n.repository for n in names if n.registry == goal.registry]
        for digest in entry.files if there else ():
            found.setdefault(digest, {}).update(dict.fromkeys(there))
    return {
        digest: tuple(name for name in names if name != goal.repository)[:MOUNTS_TRIED]
        for digest, names in found.items()
    }


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
