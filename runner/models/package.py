"""Packaging: local files become a model artifact in the store."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from runner.errors import BadInput, Conflict, Unsupported
from runner.models.artifact import parse_manifest
from runner.models.artifact_writer import PackedFile, write_gguf_artifact
from runner.models.gguf import read_gguf
from runner.models.media import LayerKind
from runner.models.progress import (
    LayerProgress,
    Progress,
    ProgressEvent,
    ProgressKind,
    TransferMode,
    silent,
)
from runner.models.store import ModelStore, StoredModel
from runner.registry.reference import Reference

MAX_TEXT_FILE = 16 * 1024 * 1024
_ATTEMPTS = 3


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
    """Puts a GGUF file, and what belongs to it, into the store under `reference`.

    The same input gives the same digest: `created` (seconds since 1970, such as
    SOURCE_DATE_EPOCH) stands for every time. Raises BadModelFile for a file that is no whole
    GGUF, Unsupported for one shard of several, BadInput, DiskFull.
    """
    info = read_gguf(path)
    if info.shards > 1:
        raise Unsupported(
            f"{path.name} is one of {info.shards} shards, which can't be packaged yet",
            hint="join them first: llama-gguf-split --merge FIRST.gguf WHOLE.gguf",
        )
    sources = [(LayerKind.GGUF, path)]
    sources += [(LayerKind.CHAT_TEMPLATE, chat_template)] if chat_template else []
    sources += [(LayerKind.LICENSE, license_file) for license_file in licenses]
    sizes = [_size(source, kind) for kind, source in sources]
    store.blobs.sweep()
    for attempt in range(_ATTEMPTS):
        files = [_add(store, kind, source, sum(sizes), progress) for kind, source in sources]
        packed = write_gguf_artifact(info, files, context_size=context_size, created=created)
        parse_manifest(packed.manifest)
        try:
            model = store.commit(packed.manifest, packed.config, reference)
        except Conflict:
            if attempt == _ATTEMPTS - 1:
                raise
            continue  # another process removed a model that shared a file of ours
        _tell_success(progress, reference, model)
        return model
    raise AssertionError("the last attempt returns or raises")


def _add(
    store: ModelStore, kind: LayerKind, source: Path, total: int, progress: Progress
) -> PackedFile:
    report = LayerProgress(
        progress,
        TransferMode.PACKAGE,
        total=total,
        layer=source.name,
        size=source.stat().st_size,
    )
    digest, size = store.add_blob_from_file(source, report)
    return PackedFile(kind, source.name, digest, size)


def _size(path: Path, kind: LayerKind) -> int:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise BadInput(f"can't read {path}: {error.strerror}") from error
    if not path.is_file():
        raise BadInput(f"{path} is not a file")
    if kind is not LayerKind.GGUF and size > MAX_TEXT_FILE:
        raise BadInput(f"{path} is larger than {MAX_TEXT_FILE // 1024 // 1024} MiB")
    return size


def _tell_success(progress: Progress, reference: Reference, model: StoredModel) -> None:
    message = f"Packaged {reference.short} ({model.short_id})"
    progress(ProgressEvent(ProgressKind.SUCCESS, TransferMode.PACKAGE, message, total=model.size))
