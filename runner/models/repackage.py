"""Packaging a model of the store anew: other words about the same blobs, none of them copied."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from runner.artifacts import media
from runner.artifacts.artifact import Layer, Manifest, ModelConfig, parse_manifest, settle
from runner.artifacts.artifact_writer import PackedFile
from runner.artifacts.media import Dialect, LayerKind, ModelFormat
from runner.errors import BadInput
from runner.models.describe import dduf_config, folder_config, gguf_config
from runner.models.folder import walk
from runner.models.package_order import PackageFormat, PackageOrder
from runner.models.recipe import Recipe, free_name
from runner.registry.digest import hex_of
from runner.store.placements import placements
from runner.store.store import ModelStore
from runner.store.stored import StoredModel
from runner.weights.gguf_shards import read_gguf_model

_V01_KINDS = frozenset(
    {
        LayerKind.GGUF,
        LayerKind.DDUF,
        LayerKind.LORA,
        LayerKind.MMPROJ,
        LayerKind.CHAT_TEMPLATE,
        LayerKind.LICENSE,
    }
)


def stored_recipe(store: ModelStore, order: PackageOrder) -> Recipe:
    """The recipe of an order that names a model of the store.

    Raises ModelNotFound, BadInput for a model with archives, Conflict for lost blobs.
    """
    model = store.get(order.from_model)
    manifest = parse_manifest(store.manifest(model.id))
    _refuse_archives(order.from_model, manifest)
    dialect = _dialect(order, manifest)
    config = _config(store, model, manifest, dialect)
    has_room = dialect is not Dialect.MODELPACK
    context_size = config.context_size if has_room else None
    annotations = {k: v for k, v in manifest.annotations.items() if k != media.PICKLES}
    return Recipe(
        config=structs.replace(config, context_size=order.context_size or context_size),
        files=tuple(_files(manifest, config.format, dialect)),
        dialect=dialect,
        annotations=annotations,
        created=order.created or model.created,
    )


def changes_nothing(order: PackageOrder, store: ModelStore) -> bool:
    """Whether an order for a model of the store asks for another name alone."""
    if order.mmproj or order.chat_template or order.licenses or order.context_size:
        return False
    model = store.get(order.from_model)
    manifest = parse_manifest(store.manifest(model.id))
    return _dialect(order, manifest) is manifest.dialect and order.created in {0, model.created}


def _refuse_archives(name: str, manifest: Manifest) -> None:
    if any(layer.packing is not media.Packing.RAW for layer in manifest.layers):
        raise BadInput(
            f"{name} holds archives, which can't be packaged anew",
            hint="pull its files from where they came, and package these",
        )


def _dialect(order: PackageOrder, manifest: Manifest) -> Dialect:
    wanted, is_modelpack = order.dialect, manifest.dialect is Dialect.MODELPACK
    if wanted is PackageFormat.CNCF:
        return Dialect.MODELPACK
    if wanted is None or not is_modelpack:
        return manifest.dialect
    fits_v01 = {layer.kind for layer in manifest.layers} <= _V01_KINDS
    nested = any("/" in layer.path for layer in manifest.layers)
    return Dialect.DOCKER_V01 if fits_v01 and not nested else Dialect.DOCKER_V02


def _config(
    store: ModelStore, model: StoredModel, manifest: Manifest, dialect: Dialect
) -> ModelConfig:
    """ModelPack's config says little: for Docker's the files are read."""
    if manifest.dialect is not Dialect.MODELPACK or dialect is Dialect.MODELPACK:
        return model.config
    bundle = store.bundle(model.id)
    if bundle.format is ModelFormat.GGUF:
        config = gguf_config(read_gguf_model(bundle.model_file).info)
    elif bundle.format is ModelFormat.DDUF:
        config = dduf_config(bundle.model_file)
    else:
        config = folder_config(walk(bundle.folder))
    return structs.replace(config, base=model.config.base, pickles=bundle.pickles or config.pickles)


def _files(manifest: Manifest, model_format: ModelFormat, dialect: Dialect) -> Iterator[PackedFile]:
    """Names are the layers' own; those that have none get the one of their place in a bundle."""
    places = {place.layer: place.name for place in placements(manifest, model_format)}
    taken: list[str] = []
    for layer in settle(manifest, model_format).layers:
        name = layer.path or places.get(layer) or _default_name(layer)
        if dialect is not Dialect.DOCKER_V01:
            name = free_name(name, taken)
        taken.append(name)
        yield PackedFile(layer.kind, name, layer.digest, layer.size)


def _default_name(layer: Layer) -> str:
    return "LICENSE" if layer.kind is LayerKind.LICENSE else hex_of(layer.digest)[:12]
