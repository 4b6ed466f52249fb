"""The model store: blobs by digest, manifests, names, and bundles of hard links.

Whatever is written is whole before something else points to it: blobs before their manifest, the
manifest before the index, which holds the names. What is removed goes in the other order. So a
program that is killed leaves at most files that belong to no model.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from runner.artifacts.artifact import Manifest, ModelConfig, parse_config, parse_manifest
from runner.errors import BadReference, Conflict, DiskFull, ModelNotFound
from runner.registry.digest import PREFIX, digest_of, hex_of, id_digits
from runner.registry.reference import STANDARD, Defaults, Reference, defaults_of, from_long, parse
from runner.store.blobs import Blobs
from runner.store.files import explain
from runner.store.index import Generation, Index
from runner.store.lock import StoreLock
from runner.store.manifests import Manifests
from runner.store.stored import StoredModel, stored_model

if TYPE_CHECKING:
    from runner.configuration import Configuration
    from runner.store.bundle import Bundle
    from runner.store.bundles import Bundles
    from runner.store.downloads import Downloads
    from runner.store.leftovers import Pruned

SETTINGS = frozenset({"models_path", "default_organisation", "default_tag"})


@dataclass(frozen=True, slots=True)
class Removed:
    """What a removal did: tags in the long spelling, and models' IDs."""

    untagged: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Addition:
    """A model to be entered: its two documents, and the names it gets."""

    manifest: bytes
    config: bytes
    references: tuple[Reference, ...] = ()


@dataclass(frozen=True, slots=True)
class _Checked:
    addition: Addition
    id: str
    manifest: Manifest
    config: ModelConfig
    created: int


def _checked(addition: Addition) -> _Checked:
    manifest = parse_manifest(addition.manifest)
    config, created = parse_config(addition.config, manifest)
    return _Checked(addition, digest_of(addition.manifest), manifest, config, created)


def store_of(configuration: Configuration) -> ModelStore:
    """The store that the settings name. Those that it looks at are `SETTINGS`."""
    settings = configuration.settings
    return ModelStore(settings.models_path or configuration.home.store, defaults_of(settings))


class ModelStore:
    """One folder of models, safe to use from several processes and threads at once.

    Every call sees what other processes have changed. Raises SchemaTooNew where the folder was
    made by a newer program.
    """

    def __init__(
        self,
        root: Path,
        defaults: Defaults = STANDARD,
    ) -> None:
        self.root = root
        self.defaults = defaults
        self.lock = StoreLock(root)
        self.blobs = Blobs(root, self.lock)
        self.manifests = Manifests(root)
        self.index = Index(root, self.lock)
        self._making = threading.Lock()
        self._downloads: Downloads | None = None

    @property
    def downloads(self) -> Downloads:
        """The one pool of downloads that this store has in this process."""
        from runner.store.downloads import Downloads

        with self._making:
            self._downloads = self._downloads or Downloads(self.root, self.blobs)
            return self._downloads

    @cached_property
    def bundles(self) -> Bundles:
        from runner.store.bundles import Bundles

        return Bundles(self.root, self.blobs)

    def generation(self) -> Generation:
        """Changes whenever any process changes the list of models; for caches of lookups."""
        return self.index.generation()

    def list(self) -> tuple[StoredModel, ...]:
        """All models, in the order they came; their `config.metadata` is empty: `get` fills it."""
        return self.index.entries()

    def get(self, name: str | Reference) -> StoredModel:
        """The model of a reference in any spelling, an ID, or an ID's first 12 or more digits.

        Raises ModelNotFound, naming near tags, and BadReference.
        """
        entry = self._find(name)
        config, _ = self._read_config(entry.id)
        return replace(entry, config=config)

    def reference(self, text: str) -> Reference:
        """Reads a reference with this store's defaults; raises BadReference."""
        return parse(text, self.defaults)

    def manifest(self, model_id: str) -> bytes:
        """A manifest's own bytes; raises ModelNotFound."""
        return self.manifests.read(model_id)

    def bundle(self, model_id: str) -> Bundle:
        """A model's files as an engine reads them, made where they are not there yet.

        Raises ModelNotFound, BadModelFile, DiskFull, Conflict where the store has lost files or
        a linked one was edited.
        """
        config, _ = self._read_config(model_id)
        return self.bundles.bundle(model_id, parse_manifest(self.manifest(model_id)), config)

    def missing(self, manifest: Manifest) -> tuple[str, ...]:
        """Digests of those blobs of a manifest that are not in the store."""
        return tuple(b.digest for b in manifest.blobs if self.blobs.size(b.digest) != b.size)

    def commit(
        self, manifest: bytes, config: bytes, reference: Reference | None = None
    ) -> StoredModel:
        """Enters a model whose layers are all in, and gives it the reference's tag.

        Raises Conflict where a layer is missing (another process may just have removed it),
        BadModelFile for documents that are no model's.
        """
        references = (reference,) if reference else ()
        return self.enter((Addition(manifest, config, references),))[0]

    def enter(self, additions: Sequence[Addition]) -> tuple[StoredModel, ...]:
        """Enters several models as `commit` does one: all of them, or none."""
        checked = [_checked(addition) for addition in additions]
        with self.lock.held():
            for model in checked:
                self.blobs.add_bytes(model.addition.config)
                self._require_whole(model.manifest)
            entries = {entry.id: entry for entry in self.index.entries()}
            if not self.index.exists():
                self.index.write(())  # from now on manifests without it mean that it is lost
            for model in checked:
                self.manifests.write(model.addition.manifest)
                known = entries.get(model.id)
                tags = known.tags if known else ()
                entry = stored_model(model.id, model.manifest, model.config, model.created, tags)
                _name(entries, entry.listed(), map(_tag_of, model.addition.references))
            self.index.write(tuple(entries.values()))
        return tuple(replace(entries[m.id], config=m.config) for m in checked)

    def tag(self, name: str | Reference, reference: Reference) -> StoredModel:
        """Gives a model one more name, taking it from whichever model had it."""
        tag = _tag_of(reference)
        if not tag:
            raise BadReference(
                f"{reference.long} names a digest, not a tag", hint="give it a name with a tag"
            )
        with self.lock.held():
            entries = {entry.id: entry for entry in self.index.entries()}
            entry = _name(entries, self._find(name), [tag])
            self.index.write(tuple(entries.values()))
        return entry

    def names_a_tag(self, name: str) -> bool:
        """Whether a model's name is one of its tags, not its ID; raises ModelNotFound."""
        return bool(self._tag_meant(name, self._find(name)))

    def remove(self, name: str | Reference, *, force: bool = False) -> Removed:
        """Takes a tag away, and with the last one the model and the blobs it alone uses.

        By ID, a model of several tags is removed only with `force`: else Conflict.
        """
        with self.lock.held():
            entry = self._find(name)
            tag = self._tag_meant(name, entry)
            if tag and len(entry.tags) > 1:
                entries = {other.id: other for other in self.index.entries()}
                entries[entry.id] = entry.untagged(tag)
                self.index.write(tuple(entries.values()))
                return Removed(untagged=(tag,))
            if not tag and len(entry.tags) > 1 and not force:
                raise Conflict(
                    f"{name} has several names: {', '.join(entry.tags)}",
                    hint="remove them one by one, or force the removal",
                )
            self._delete(entry)
        return Removed(untagged=entry.tags, deleted=(entry.id,))

    def purge(self, keep: Collection[str] = ()) -> Removed:
        """Removes all models but those whose IDs are in `keep`."""
        with self.lock.held():
            gone = [entry for entry in self.index.entries() if entry.id not in keep]
            self._delete(*gone)
        return Removed(
            untagged=tuple(tag for entry in gone for tag in entry.tags),
            deleted=tuple(entry.id for entry in gone),
        )

    def prune(self, *, everything: bool = False, keep: Collection[str] = ()) -> Pruned:
        """Removes what belongs to no model and what broken transfers left, if it is older than
        a day or `everything` is to go: then also models without a name, but those whose IDs are
        in `keep`. Never removes what a running transfer is writing."""
        from runner.store.leftovers import prune

        return prune(self, everything=everything, keep=keep)

    def discard(self, digests: Iterable[str]) -> None:
        """Removes those blobs that no model uses."""
        digests = set(digests)
        if not digests:
            return
        with self.lock.held():
            used = {digest for entry in self.index.entries() for digest in entry.files}
            self.blobs.remove(*(digests - used))

    def _require_whole(self, manifest: Manifest) -> None:
        missing = self.missing(manifest)
        if missing:
            raise Conflict(f"the model's file {missing[0]} is not in the store", hint="try again")

    def _delete(self, *gone: StoredModel) -> None:
        """The index goes first: a crash leaves files without a name, never a name without. On a
        full disk it goes last, into the space that the files leave."""
        ids = {entry.id for entry in gone}
        others = [other for other in self.index.entries() if other.id not in ids]
        is_written = self._writes(others)
        self._remove_files(gone, others)
        if not is_written:
            self.index.write(others)

    def _writes(self, entries: Sequence[StoredModel]) -> bool:
        """Writes the index; False where the disk is full."""
        try:
            self.index.write(entries)
        except OSError as error:
            if not isinstance(explain(error, self.root), DiskFull):
                raise
            self.index.forget_previous()
            return False
        return True

    def _remove_files(self, gone: Sequence[StoredModel], others: Sequence[StoredModel]) -> None:
        used = {digest for other in others for digest in other.files}
        for entry in gone:
            self.bundles.remove(entry.id)
            self.manifests.remove(entry.id)
        self.blobs.remove(*({digest for entry in gone for digest in entry.files} - used))

    def _find(self, name: str | Reference) -> StoredModel:
        entries = self.index.entries()
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
        if name.startswith(PREFIX) and id_digits(name):
            raise ModelNotFound(f"no model here has the ID {name}", hint="runner ls lists them")
        return self.reference(name)

    def _tag_meant(self, name: str | Reference, entry: StoredModel) -> str:
        if isinstance(name, str) and _by_id(name, (entry,)):
            return ""
        reference = self._parsed(name)
        return reference.long if reference.long in entry.tags else ""

    def _not_found(self, reference: Reference) -> ModelNotFound:
        from runner.store.near import near_names

        there = (tag for entry in self.index.entries() for tag in entry.tags)
        near = near_names(reference, (from_long(tag, self.defaults) for tag in there))
        hint = f"did you mean {' or '.join(near)}? Else: " if near else ""
        hint += "`runner ls` lists the models here"
        if reference.repository.endswith(".gguf"):
            hint += ", and `runner package --gguf FILE NAME` makes a file one of them"
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


def _name(entries: dict[str, StoredModel], entry: StoredModel, tags: Iterable[str]) -> StoredModel:
    """Puts a model among the others and gives it tags, which it takes from whoever has them."""
    for tag in filter(None, tags):
        for other in entries.values():
            entries[other.id] = other.untagged(tag)
        entry = entry.tagged(tag)
    entries[entry.id] = entry
    return entry


def _by_id(name: str, entries: Iterable[StoredModel]) -> StoredModel | None:
    digits = id_digits(name)
    if not digits:
        return None
    found = [entry for entry in entries if hex_of(entry.id).startswith(digits)]
    if len(found) > 1:
        raise BadReference(f"{name} is the beginning of several IDs", hint="give more digits")
    return found[0] if found else None


def _tag_of(reference: Reference | None) -> str:
    return reference.long if reference and reference.tag and not reference.digest else ""
