"""The model store: blobs by digest, manifests, names, and bundles of hard links."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from runner.errors import BadReference, Conflict, ModelNotFound
from runner.models.artifact import Manifest, ModelConfig, parse_config, parse_manifest
from runner.models.blobs import Blobs, BlobWriter, Report
from runner.models.bundles import Bundle, Bundles
from runner.models.files import explained, write_whole
from runner.models.index import Entry, Generation, Index
from runner.registry.digest import PREFIX, digest_of, hex_of
from runner.registry.reference import DOCKER_HUB, Reference, parse

SHORT_ID = 12
_ID = re.compile(rf"(?:{PREFIX})?([0-9a-f]{{{SHORT_ID},64}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class StoredModel:
    """A model in the store. `id` is `sha256:` and its manifest's digest, `tags` are in the long
    spelling, `created` is seconds since 1970, `size` the bytes of its layers."""

    id: str
    tags: tuple[str, ...]
    created: int
    config: ModelConfig
    size: int

    @property
    def short_id(self) -> str:
        return hex_of(self.id)[:SHORT_ID]


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal did: tags in the long spelling, and models' IDs."""

    untagged: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


class ModelStore:
    """One folder of models, safe to use from several processes and threads at once.

    Every call sees what other processes have changed. Raises SchemaTooNew where the folder was
    made by a newer program.
    """

    def __init__(
        self,
        root: Path,
        *,
        default_registry: str = DOCKER_HUB,
        default_organisation: str = "ai",
    ) -> None:
        self.root = root
        self._registry = default_registry
        self._organisation = default_organisation
        self._manifests = root / "manifests" / "sha256"
        self.blobs = Blobs(root)
        self._bundles = Bundles(root, self.blobs)
        self._index = Index(root)

    def generation(self) -> Generation:
        """Changes whenever any process changes the list of models; for caches of lookups."""
        return self._index.generation()

    def list(self) -> tuple[StoredModel, ...]:
        """All models, in the order they came; their `config.gguf` is empty: `get` fills it."""
        return tuple(_stored(entry) for entry in self._index.entries())

    def get(self, name: str | Reference) -> StoredModel:
        """The model of a reference in any spelling, an ID, or an ID's first 12 or more digits.

        Raises ModelNotFound, naming near tags, and BadReference.
        """
        entry = self._find(name)
        config, _ = self._read_config(entry.id)
        return replace(_stored(entry), config=config)

    def reference(self, text: str) -> Reference:
        """Reads a reference with this store's defaults; raises BadReference."""
        return parse(text, default_registry=self._registry, default_organisation=self._organisation)

    def manifest(self, model_id: str) -> bytes:
        """A manifest's own bytes; raises ModelNotFound."""
        try:
            return (self._manifests / hex_of(model_id)).read_bytes()
        except FileNotFoundError as error:
            raise ModelNotFound(f"the manifest {model_id} is not in the store") from error

    def bundle(self, model_id: str) -> Bundle:
        """A model's files as an engine reads them, made where they are not there yet.

        Raises ModelNotFound, Unsupported, Conflict where the store has lost files, DiskFull.
        """
        return self._bundles.bundle(model_id, parse_manifest(self.manifest(model_id)))

    def missing(self, manifest: Manifest) -> tuple[str, ...]:
        """Digests of those blobs of a manifest that are not in the store."""
        return tuple(b.digest for b in manifest.blobs if self.blobs.size(b.digest) != b.size)

    def add_blob_from_file(self, path: Path, report: Report | None = None) -> tuple[str, int]:
        """Copies a file in; returns digest and size. Raises BadInput, DiskFull."""
        return self.blobs.add_file(path, report)

    def blob_writer(self, digest: str, size: int) -> AbstractContextManager[BlobWriter]:
        """Takes a blob's bytes and keeps them only if they are those announced.

        Raises CorruptTransfer, DiskFull.
        """
        return self.blobs.writer(digest, size)

    def commit(
        self, manifest: bytes, config: bytes, reference: Reference | None = None
    ) -> StoredModel:
        """Enters a model whose layers are all in, and gives it the reference's tag.

        Raises Conflict where a layer is missing (another process may just have removed it),
        BadModelFile for documents that are no model's.
        """
        parsed = parse_manifest(manifest)
        stated, created = parse_config(config, parsed)
        model_id = digest_of(manifest)
        with self._index.locked():
            self.blobs.add_bytes(config)
            missing = self.missing(parsed)
            if missing:
                raise Conflict(
                    f"the model's file {missing[0]} is not in the store", hint="try again"
                )
            path = self._manifests / hex_of(model_id)
            write_whole(path, manifest, mode=0o444)
            others = self._index.entries()
            known = next((entry for entry in others if entry.id == model_id), None)
            entry = Entry(
                id=model_id,
                tags=known.tags if known else (),
                files=tuple(blob.digest for blob in parsed.blobs),
                created=created,
                size=parsed.size,
                config=replace(stated, gguf={}),
            )
            entry = self._enter(entry, others, _tag_of(reference))
        return replace(_stored(entry), config=stated)

    def tag(self, name: str | Reference, reference: Reference) -> StoredModel:
        """Gives a model one more name, taking it from whichever model had it."""
        tag = _tag_of(reference)
        if not tag:
            raise BadReference(f"{reference.long} names a digest, not a tag")
        with self._index.locked():
            entry = self._enter(self._find(name), self._index.entries(), tag)
        return _stored(entry)

    def names_a_tag(self, name: str) -> bool:
        """Whether a model's name is one of its tags, not its ID; raises ModelNotFound."""
        return bool(self._tag_meant(name, self._find(name)))

    def remove(self, name: str | Reference, *, force: bool = False) -> Removed:
        """Takes a tag away, and with the last one the model and the blobs it alone uses.

        By ID, a model of several tags is removed only with `force`: else Conflict.
        """
        with self._index.locked():
            entry = self._find(name)
            tag = self._tag_meant(name, entry)
            if tag and len(entry.tags) > 1:
                self._enter(entry.untagged(tag), self._index.entries(), "")
                return Removed(untagged=(tag,))
            if not tag and len(entry.tags) > 1 and not force:
                raise Conflict(
                    f"{name} has several names: {', '.join(entry.tags)}",
                    hint="remove them one by one, or force the removal",
                )
            self._delete(entry)
        return Removed(untagged=entry.tags, deleted=(entry.id,))

    def _enter(self, entry: Entry, others: Iterable[Entry], tag: str) -> Entry:
        if tag:
            entry = entry.tagged(tag)
        kept = [other.untagged(tag) if tag else other for other in others]
        places = [number for number, other in enumerate(kept) if other.id == entry.id]
        if places:
            kept[places[0]] = entry
        else:
            kept.append(entry)
        self._index.write(kept)
        return entry

    def _delete(self, entry: Entry) -> None:
        """The index goes first: a crash leaves files without a name, never a name without."""
        others = [other for other in self._index.entries() if other.id != entry.id]
        self._index.write(others)
        used = {digest for other in others for digest in other.files}
        with explained(self.root):
            self._bundles.remove(entry.id)
            (self._manifests / hex_of(entry.id)).unlink(missing_ok=True)
            for digest in set(entry.files) - used:
                self.blobs.remove(digest)

    def _find(self, name: str | Reference) -> Entry:
        entries = self._index.entries()
        if isinstance(name, str):
            found = _by_id(name, entries)
            if found:
                return found
        reference = self._parsed(name)
        for entry in entries:
            if reference.digest == entry.id or (
                not reference.digest and reference.long in entry.tags
            ):
                return entry
        raise self._not_found(reference)

    def _parsed(self, name: str | Reference) -> Reference:
        if isinstance(name, Reference):
            return name
        if name.startswith(PREFIX) and _ID.fullmatch(name):
            raise ModelNotFound(f"no model here has the ID {name}", hint="runner ls lists them")
        return self.reference(name)

    def _tag_meant(self, name: str | Reference, entry: Entry) -> str:
        if isinstance(name, str) and _by_id(name, (entry,)):
            return ""
        reference = self._parsed(name)
        return reference.long if reference.long in entry.tags else ""

    def _not_found(self, reference: Reference) -> ModelNotFound:
        tags = {self.reference(tag).short for entry in self._index.entries() for tag in entry.tags}
        near = get_close_matches(reference.short, sorted(tags), n=2)
        if near:
            hint = f"did you mean {' or '.join(near)}? Else: runner pull {reference.short}"
        else:
            hint = f"runner pull {reference.short}"
        return ModelNotFound(f"{reference.short} is not in the model store", hint=hint)

    def _read_config(self, model_id: str) -> tuple[ModelConfig, int]:
        manifest = parse_manifest(self.manifest(model_id))
        try:
            return parse_config(self.blobs.read(manifest.config.digest), manifest)
        except FileNotFoundError as error:
            raise Conflict(
                f"the config of {model_id} is missing in the store",
                hint="pull or package the model again",
            ) from error


def _by_id(name: str, entries: Iterable[Entry]) -> Entry | None:
    match = _ID.fullmatch(name)
    if not match:
        return None
    found = [entry for entry in entries if hex_of(entry.id).startswith(match[1])]
    if len(found) > 1:
        raise BadReference(f"{name} is the beginning of several IDs", hint="give more digits")
    return found[0] if found else None


def _tag_of(reference: Reference | None) -> str:
    return reference.long if reference and reference.tag and not reference.digest else ""


def _stored(entry: Entry) -> StoredModel:
    return StoredModel(entry.id, entry.tags, entry.created, entry.config, entry.size)
