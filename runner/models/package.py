"""Packaging: files and folders become a model artifact in the store."""

from __future__ import annotations

from runner.artifacts.artifact_writer import Contents, Packed, PackedFile, write_artifact
from runner.artifacts.media import WEIGHT_KINDS, LayerKind
from runner.models.package_order import PackageOrder, check_order
from runner.models.progress import (
    LayerProgress,
    Progress,
    ProgressEvent,
    ProgressKind,
    TransferMode,
    silent,
)
from runner.models.recipe import Ingredient, LocalFile, Recipe, with_extras
from runner.models.repackage import changes_nothing, stored_recipe
from runner.models.sources import local_recipe
from runner.registry.reference import Reference
from runner.store.attempts import Attempts
from runner.store.store import ModelStore
from runner.store.stored import StoredModel

_LINKED = WEIGHT_KINDS | {LayerKind.MMPROJ}
"""What `link` is for; texts are small, and their owners go on editing them."""
_UNKNOWN = "sha256:" + "0" * 64


def package(store: ModelStore, order: PackageOrder, progress: Progress = silent) -> StoredModel:
    """Puts a model into the store under the order's reference; the same input gives the same
    digest. `config.pickles` of what it returns says that loading it may run code.

    Each file is read once. Raises BadInput for an order or files that can't be, BadModelFile for
    broken weights, ModelNotFound for a model of the store that is not there, Conflict where
    that one has lost files, DiskFull.
    """
    check_order(order)
    if order.from_model and changes_nothing(order, store):
        return _told(progress, order.reference, store.tag(order.from_model, order.reference))
    made = stored_recipe(store, order) if order.from_model else local_recipe(store, order)
    recipe = with_extras(made, order)
    _rehearse(recipe)
    store.blobs.sweep()
    return _told(progress, order.reference, _entered(store, order, recipe, progress))


def _entered(
    store: ModelStore, order: PackageOrder, recipe: Recipe, progress: Progress
) -> StoredModel:
    attempts = Attempts(last=store.lock.held())
    while True:
        with attempts.one():
            packed = _packed(recipe, _added(store, recipe, progress, link=order.link))
            return store.commit(packed.manifest, packed.config, order.reference)


def _rehearse(recipe: Recipe) -> None:
    """Says what can't be written before gigabytes have been read."""
    _packed(recipe, [_layer(file, _UNKNOWN, file.size) for file in recipe.files])


def _packed(recipe: Recipe, files: list[PackedFile]) -> Packed:
    contents = Contents(recipe.config, tuple(files), recipe.annotations, recipe.created)
    return write_artifact(contents, recipe.dialect)


def _layer(file: Ingredient, digest: str, size: int) -> PackedFile:
    return PackedFile(file.kind, file.name, digest, size)


def _added(
    store: ModelStore, recipe: Recipe, progress: Progress, *, link: bool
) -> list[PackedFile]:
    total = sum(file.size for file in recipe.files)
    added = []
    for file in recipe.files:
        if isinstance(file, LocalFile):
            report = LayerProgress(
                progress, TransferMode.PACKAGE, total=total, layer=file.name, size=file.size
            )
            linked = link and file.kind in _LINKED
            added.append(_layer(file, *store.blobs.add_file(file.path, report, link=linked)))
        else:
            added.append(file)
    return added


def _told(progress: Progress, reference: Reference, model: StoredModel) -> StoredModel:
    message = f"Packaged {reference.short} ({model.short_id})"
    progress(ProgressEvent(ProgressKind.SUCCESS, TransferMode.PACKAGE, message, total=model.size))
    return model
