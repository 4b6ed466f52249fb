"""Adapters (LoRA): small weights that are nothing without the model they were made for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from runner.artifacts import media
from runner.errors import BadInput, BadReference, ModelNotFound
from runner.models.folder import Folder, walk
from runner.models.naming import LocalPath, ModelId, read_name
from runner.registry.hubnames import HUGGING_FACE
from runner.registry.reference import Reference, parse
from runner.store.store import ModelStore
from runner.weights.gguf import GgufInfo

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
_URL = "general.base_model.0.repo_url"
_TYPE, _ADAPTER = "general.type", "adapter"
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+", re.ASCII)
_NAME_IT = "name the model that it was made for: --base NAME"


def is_adapter(info: GgufInfo) -> bool:
    """Whether a GGUF file says that it is an adapter."""
    return info.text(_TYPE) == _ADAPTER


def base_in_gguf(info: GgufInfo) -> str:
    """The page of the model that an adapter was made for; empty where the file does not say."""
    return info.text(_URL)


def adapter_folder(path: Path) -> Folder:
    """The folder of a safetensors adapter; raises BadInput where it is none."""
    folder = walk(path)
    missing = [name for name in (CONFIG, WEIGHTS) if name not in folder.names]
    if missing:
        raise BadInput(
            f"{path} is no adapter's folder: {' and '.join(missing)} is missing",
            hint="package whole models with --safetensors or --dir",
        )
    return folder


def base_annotations(store: ModelStore, named: str, stated: str) -> Mapping[str, str]:
    """What an artifact says of its adapter's base: the name, and the digest of a base that is in
    the store. `named` is the user's word, `stated` the adapter's own.

    Raises BadInput where neither says a usable name.
    """
    reference = _named(store, named) if named else _stated(stated)
    annotations = {media.BASE_NAME: reference.long if reference else named}
    try:
        model = store.get(reference or named)
    except ModelNotFound:
        if reference is None:
            raise
        return annotations
    if reference is None and model.tags:
        annotations[media.BASE_NAME] = model.tags[0]
    return annotations | {media.BASE_DIGEST: model.id}


def _named(store: ModelStore, name: str) -> Reference | None:
    """None for an ID, which only a model in the store has."""
    read = read_name(name, store.defaults)
    if isinstance(read, LocalPath):
        raise BadInput(
            f"the base of an adapter is named, not a file of this machine: {name}",
            hint="package the base too, and give the name you package it under",
        )
    return None if isinstance(read, ModelId) else read


def _stated(name: str) -> Reference:
    """A page's address, or a name at the Hugging Face Hub, as its tools write them down."""
    if not name:
        raise BadInput("the adapter does not say which model it was made for", hint=_NAME_IT)
    try:
        if _HUB_ID.fullmatch(name):
            return parse(f"{HUGGING_FACE.registry}/{name}")
        if name.startswith(("https://", "http://")):
            return parse(name)
    except BadReference as error:
        raise BadInput(
            f"the adapter names an unusable base: {name[:200]!r}", hint=_NAME_IT
        ) from error
    raise BadInput(
        f"the adapter names its base by a place of its maker's machine: {name[:200]!r}",
        hint=_NAME_IT,
    )
