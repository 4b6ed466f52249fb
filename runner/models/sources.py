"""Where a model to be packaged comes from: each kind of source becomes a recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from msgspec import structs

from runner.artifacts import media
from runner.artifacts.artifact import ModelConfig
from runner.artifacts.media import Dialect, LayerKind
from runner.errors import BadInput
from runner.models.adapters import adapter_folder, base_annotations, base_in_gguf, is_adapter
from runner.models.describe import dduf_config, folder_config, gguf_config
from runner.models.folder import Folder, FolderFile, walk
from runner.models.package_order import PackageFormat, PackageOrder
from runner.models.recipe import (
    Ingredient,
    LocalFile,
    Recipe,
    expanded,
    is_projector,
    local_file,
)
from runner.store.store import ModelStore
from runner.weights.gguf import GgufInfo, read_gguf
from runner.weights.gguf_shards import read_gguf_model
from runner.weights.shards import require_shards, shard_names


def local_recipe(store: ModelStore, order: PackageOrder) -> Recipe:
    """The recipe of an order that names a file or folder.

    Raises BadInput, BadModelFile, ModelNotFound for a base ID that is not in the store.
    """
    if order.gguf:
        return _gguf(order, expanded(order.gguf))
    if order.safetensors:
        return _safetensors(order, expanded(order.safetensors))
    if order.dduf:
        path = expanded(order.dduf)
        return _made(order, dduf_config(path), (local_file(LayerKind.DDUF, path),))
    if order.lora:
        return _lora(store, order, expanded(order.lora))
    assert order.folder
    return _folder(order, walk(expanded(order.folder)))


def _gguf(order: PackageOrder, path: Path) -> Recipe:
    model = read_gguf_model(path)
    _refuse_parts(path, model.info)
    files = tuple(local_file(LayerKind.GGUF, shard) for shard in model.paths)
    return _made(order, gguf_config(model.info), files)


def _refuse_parts(path: Path, info: GgufInfo) -> None:
    if is_adapter(info):
        raise BadInput(
            f"{path.name} is an adapter, not a whole model",
            hint="package it as one: runner package --lora FILE NAME",
        )
    if is_projector(info):
        raise BadInput(
            f"{path.name} is a projector, not a whole model",
            hint="package it with its model: runner package --gguf FILE --mmproj FILE NAME",
        )


def _safetensors(order: PackageOrder, path: Path) -> Recipe:
    if not path.is_dir():
        return _safetensors_file(order, path)
    folder = walk(path)
    if not folder.of(LayerKind.SAFETENSORS):
        raise BadInput(
            f"{path} holds no safetensors files",
            hint="folders of other formats are packaged with --dir, a GGUF file with --gguf",
        )
    if folder.of(LayerKind.GGUF):
        raise BadInput(
            f"{path} holds GGUF files beside its safetensors",
            hint="move either of them away, or package one GGUF file with --gguf",
        )
    return _folder(order, folder)


def _safetensors_file(order: PackageOrder, path: Path) -> Recipe:
    """The weights alone, without the configs and the tokenizer that lie beside them."""
    names = shard_names(path.name)
    if len(names) > 1:
        require_shards(names, {name for name in names if (path.parent / name).exists()})
    files = tuple(local_file(LayerKind.SAFETENSORS, path.parent / name) for name in names)
    listed = tuple(FolderFile(file.name, file.size, file.kind) for file in files)
    return _made(order, folder_config(Folder(path.parent, listed)), files)


def _folder(order: PackageOrder, folder: Folder) -> Recipe:
    files = tuple(
        LocalFile(file.kind, file.path, folder.source(file), file.size) for file in folder.files
    )
    return _made(order, folder_config(folder), files, natural=Dialect.DOCKER_V02)


def _lora(store: ModelStore, order: PackageOrder, path: Path) -> Recipe:
    if path.is_dir():
        recipe = _folder(order, adapter_folder(path))
        stated = recipe.config.base
    else:
        info = read_gguf(path)
        if not is_adapter(info):
            raise BadInput(
                f"{path.name} is a whole model, not an adapter",
                hint="package it as one: runner package --gguf FILE NAME",
            )
        recipe = _made(order, gguf_config(info), (local_file(LayerKind.LORA, path),))
        stated = base_in_gguf(info)
    annotations = base_annotations(store, order.base, stated)
    config = structs.replace(recipe.config, base=annotations[media.BASE_NAME])
    return replace(recipe, config=config, annotations=annotations)


def _made(
    order: PackageOrder,
    config: ModelConfig,
    files: tuple[Ingredient, ...],
    *,
    natural: Dialect = Dialect.DOCKER_V01,
) -> Recipe:
    """ModelPack has no word for a context size: one that nobody asked for is left out there."""
    dialect = Dialect.MODELPACK if order.dialect is PackageFormat.CNCF else natural
    asked = order.context_size is not None or dialect is Dialect.MODELPACK
    if asked:
        config = structs.replace(config, context_size=order.context_size)
    return Recipe(config, files, dialect, created=order.created)
