"""Models in one archive, an OCI image layout, for machines without a network.

What is written depends on the models alone, byte for byte. What is read is checked like a pull:
nothing is entered before everything is in.
"""

from __future__ import annotations

import fcntl
import json
import re
import secrets
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from runner.artifacts.artifact import MAX_CONFIG, Manifest, parse_manifest
from runner.artifacts.documents import json_object, text_of
from runner.errors import BadInput, BadModelFile, BadReference, Conflict, InUse, ModelNotFound
from runner.registry.digest import hex_of
from runner.registry.media import OCI_INDEX, OCI_MANIFEST
from runner.registry.reference import Reference
from runner.store.files import explained
from runner.store.leftovers import taken
from runner.store.oci_layout import (
    BLOBS,
    CONTAINERD_NAME,
    INDEX,
    LAYOUT,
    MAX_DOCUMENT,
    REF_NAME,
    VERSION,
    Allowance,
    FolderLayout,
    Found,
    Layout,
    TarLayout,
    manifests,
    read_document,
)
from runner.store.store import Addition, ModelStore
from runner.store.stored import StoredModel
from runner.store.tar_stream import BLOCK, Readable

_CHUNK = 1024 * 1024
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755


@dataclass(frozen=True, slots=True)
class _Exported:
    id: str
    content: bytes
    manifest: Manifest
    names: tuple[str, ...]


def export_models(store: ModelStore, names: Sequence[str], target: Path | BinaryIO) -> None:
    """Writes models to a file, which appears when it is whole, or to a stream.

    A model that is named by an ID takes all of its tags along, else the one it is named by.
    Raises ModelNotFound, BadReference, DiskFull, Conflict where the store has lost a file.
    """
    models = _exported(store, names)
    if isinstance(target, Path):
        with _whole_file(target) as file:
            _write(store, models, file)
    else:
        _write(store, models, target)
        target.flush()


def import_models(
    store: ModelStore,
    source: Path | Readable,
    *,
    names: Sequence[str] = (),
    reference: Reference | None = None,
) -> tuple[StoredModel, ...]:
    """Takes models from an archive, a stream of one, or a layout's folder.

    `names` chooses among several, by their names in it or their digests; `reference` is the name
    for the one model there is. Raises BadInput, BadModelFile (also for images), CorruptTransfer,
    ModelNotFound, DiskFull, Conflict where files were removed meanwhile; nothing of a failed
    import stays.
    """
    store.index.entries()  # what is wrong with the store is said before the archive is read
    with store.blobs.reserved():
        if not isinstance(source, Path):
            return _import_tar(store, source, names, reference)
        try:
            return _import_path(store, source, names, reference)
        except Conflict as error:
            if isinstance(error, InUse):
                raise
            return _import_path(store, source, names, reference)  # it can be read again


def _import_path(
    store: ModelStore, source: Path, names: Sequence[str], reference: Reference | None
) -> tuple[StoredModel, ...]:
    with explained(source):
        if source.is_dir():
            return _import(store, FolderLayout(store.blobs, source), names, reference)
        with source.open("rb") as file:
            return _import_tar(store, file, names, reference)


def _exported(store: ModelStore, names: Sequence[str]) -> tuple[_Exported, ...]:
    if not names:
        raise BadInput("no model is named", hint="runner ls lists them")
    tags: dict[str, tuple[str, ...]] = {}
    for name in names:
        model = store.get(name)
        named = (store.reference(name).long,) if store.names_a_tag(name) else model.tags
        tags[model.id] = tuple(dict.fromkeys((*tags.get(model.id, ()), *named)))
    found: list[_Exported] = []
    for model_id, kept in tags.items():
        content = store.manifest(model_id)
        manifest = parse_manifest(content)
        for blob in manifest.blobs:
            store.blobs.require(blob.digest, blob.size)
        found.append(_Exported(model_id, content, manifest, kept))
    return tuple(found)


def _write(store: ModelStore, models: Sequence[_Exported], target: BinaryIO) -> None:
    version = json.dumps({"imageLayoutVersion": VERSION}).encode()
    archive = _Archive(target)
    archive.add(LAYOUT, len(version), BytesIO(version))
    index = _index(models)
    archive.add(INDEX, len(index), BytesIO(index))
    for folder in ("blobs", BLOBS.rstrip("/")):
        archive.add_folder(folder)
    written: set[str] = set()
    for model in models:
        archive.add(BLOBS + hex_of(model.id), len(model.content), BytesIO(model.content))
        for blob in model.manifest.blobs:
            if blob.digest not in written:
                _write_blob(store, archive, blob.digest, blob.size)
                written.add(blob.digest)
    archive.finish()


def _write_blob(store: ModelStore, archive: _Archive, digest: str, size: int) -> None:
    try:
        with store.blobs.require(digest, size).open("rb") as file:
            archive.add(BLOBS + hex_of(digest), size, file)
    except FileNotFoundError as error:
        raise Conflict(f"{digest} was removed meanwhile", hint="try again") from error
    store.blobs.check_link(digest)


def _index(models: Sequence[_Exported]) -> bytes:
    descriptors = [
        _descriptor(model) | ({"annotations": _annotations(name)} if name else {})
        for model in models
        for name in model.names or ("",)
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors}
    return json.dumps(document, separators=(",", ":")).encode()


def _descriptor(model: _Exported) -> dict[str, object]:
    document = json_object(model.content, MAX_DOCUMENT, "manifest")
    artifact_type = text_of(document.get("artifactType"))
    return {
        "mediaType": text_of(document.get("mediaType")) or OCI_MANIFEST,
        "digest": model.id,
        "size": len(model.content),
    } | ({"artifactType": artifact_type} if artifact_type else {})


def _annotations(name: str) -> dict[str, str]:
    """The whole name twice: skopeo and Podman read the one, containerd the other."""
    return {CONTAINERD_NAME: name, REF_NAME: name}


class _Archive:
    """A tar archive without times, owners and whatever else differs between machines."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target

    def add(self, name: str, size: int, content: Readable) -> None:
        self._begin(name, size, tarfile.REGTYPE, _FILE_MODE)
        missing = size
        while missing and (part := content.read(min(_CHUNK, missing))):
            self._target.write(part)
            missing -= len(part)
        if missing:
            raise Conflict(f"{name} was cut short meanwhile", hint="runner check says more")
        self._target.write(b"\0" * (-size % BLOCK))

    def add_folder(self, name: str) -> None:
        self._begin(name, 0, tarfile.DIRTYPE, _FOLDER_MODE)

    def finish(self) -> None:
        self._target.write(b"\0" * 2 * BLOCK)

    def _begin(self, name: str, size: int, kind: bytes, mode: int) -> None:
        info = tarfile.TarInfo(name)
        info.size, info.type, info.mode = size, kind, mode
        self._target.write(info.tobuf(tarfile.PAX_FORMAT))


@contextmanager
def _whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file that takes its name once it is whole."""
    with explained(path):
        _sweep(path)
        file = _begun(path)
        temporary = Path(file.name)
        try:
            with file:
                yield file
                file.flush()
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def _begun(path: Path) -> BinaryIO:
    """A new file beside `path`, locked where the file system can: its writer lives."""
    while True:
        file = path.with_name(f".{path.name}.{secrets.token_hex(8)}").open("xb")
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        if Path(file.name).exists():
            return file
        file.close()  # another export has swept it just before it was locked


def _sweep(path: Path) -> None:
    """Removes what exports to `path` have left that were killed."""
    unfinished = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}", re.ASCII)
    with suppress(OSError):  # some folders can't be listed, some file systems not locked
        for sibling in path.parent.iterdir():
            if unfinished.fullmatch(sibling.name):
                with taken(sibling) as is_free:
                    if is_free:
                        sibling.unlink(missing_ok=True)


def _import_tar(
    store: ModelStore, source: Readable, names: Sequence[str], reference: Reference | None
) -> tuple[StoredModel, ...]:
    layout = TarLayout(store.blobs, source)
    try:
        layout.read()
    except BaseException:
        store.discard(layout.added)
        raise
    return _import(store, layout, names, reference)


def _import(
    store: ModelStore, layout: Layout, names: Sequence[str], reference: Reference | None
) -> tuple[StoredModel, ...]:
    try:
        chosen = _chosen(store, manifests(layout, store.blobs), names)
        if reference and len(chosen) > 1:
            raise BadInput(
                f"the archive holds {len(chosen)} models, which can't all be {reference.short}",
                hint=f"choose one of them: {_listed(chosen)}",
            )
        allowance = Allowance()
        return store.enter(
            [_addition(store, layout, found, reference, allowance) for found in chosen]
        )
    finally:
        store.discard(layout.added)  # what no model uses: all of it where the import failed


def _chosen(store: ModelStore, found: Sequence[Found], names: Sequence[str]) -> tuple[Found, ...]:
    if not found:
        raise BadModelFile("the archive holds no model", hint="runner export writes models")
    if not names:
        return tuple(found)
    chosen = {one.digest: one for name in names for one in found if _is_called(store, one, name)}
    for name in names:
        if not any(_is_called(store, one, name) for one in found):
            raise ModelNotFound(f"the archive holds no {name}", hint=f"it has {_listed(found)}")
    return tuple(chosen.values())


def _is_called(store: ModelStore, found: Found, name: str) -> bool:
    if name in found.names or name == found.digest:
        return True
    try:
        wanted = store.reference(name)
    except BadReference:
        return False
    return any(reference == wanted for reference in _references(store, found))


def _addition(
    store: ModelStore,
    layout: Layout,
    found: Found,
    reference: Reference | None,
    allowance: Allowance,
) -> Addition:
    """Refuses what is no model before its layers are taken."""
    content = read_document(store.blobs, found.digest)
    allowance.take(len(content))
    try:
        manifest = parse_manifest(content)
    except BadModelFile as error:
        what = found.names[0] if found.names else found.digest
        raise BadModelFile(
            f"{what} in the archive: {error.message}",
            hint=error.hint or "choose the models in it by name",
        ) from error
    if manifest.config.size > MAX_CONFIG:
        raise BadModelFile(
            f"the config {manifest.config.digest} is larger than a config may be",
            hint="it is no model's: export it again where it comes from",
        )
    for blob in manifest.blobs:
        layout.bring(blob.digest, blob.size)
    named = (reference,) if reference else _references(store, found)
    allowance.take(manifest.config.size)
    return Addition(content, read_document(store.blobs, manifest.config.digest), named)


def _references(store: ModelStore, found: Found) -> tuple[Reference, ...]:
    """A tag alone, as oras writes it, names no repository."""
    return tuple(store.reference(name) for name in found.names if "/" in name)


def _listed(found: Sequence[Found]) -> str:
    return ", ".join(name for one in found for name in one.names or (one.digest,))
