"""Packaging in one line, for tests that need a model in a store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner.models.package import package
from runner.models.package_order import PackageOrder
from runner.models.progress import Progress, silent
from runner.registry.reference import Reference
from runner.store.store import ModelStore
from runner.store.stored import StoredModel


def package_gguf(
    store: ModelStore,
    path: Path,
    reference: Reference,
    *,
    context_size: int | None = None,
    chat_template: Path | None = None,
    licenses: Sequence[Path] = (),
    created: int = 0,
    progress: Progress = silent,
) -> StoredModel:
    order = PackageOrder(
        reference,
        gguf=path,
        context_size=context_size,
        chat_template=chat_template,
        licenses=tuple(licenses),
        created=created,
    )
    return package(store, order, progress)
