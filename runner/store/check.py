"""Checks the store: every blob's bytes, and that all that points to one finds it. Repairs it.

A repair never makes up what is lost. Blobs with wrong bytes go, and so does a model that lacks
one, from the list; its name is told, so that it can be pulled again, which brings only what is
missing. A list that can't be read is made anew from the manifests, with the names of the list
before it.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from runner.artifacts.artifact import Manifest, parse_config, parse_manifest
from runner.errors import BadModelFile, Conflict, ModelNotFound, SchemaTooNew, ShuttingDown
from runner.registry.digest import digest_from, digest_of
from runner.store.links import Link
from runner.store.store import ModelStore
from runner.store.stored import StoredModel, stored_model

_BLOCK = 4 * 1024 * 1024

Told = Callable[[int, int], None]
"""Hears how many bytes were checked, and how many there are."""


class ProblemKind(StrEnum):
    BLOB = "blob"
    """A blob holds other bytes than its name says."""
    LINK = "link"
    """A linked file was edited, or its record does not fit it."""
    MANIFEST = "manifest"
    """A manifest holds other bytes than its name says, or is none."""
    MODEL = "model"
    """A model has lost a file."""
    ENTRY = "entry"
    """The list says something else of a model than its manifest."""
    UNLISTED = "unlisted"
    """A whole model is not in the list."""
    INDEX = "index"
    """The list can't be read, or is gone."""
    BUNDLE = "bundle"
    """The files that engines get are not as they were made."""


@dataclass(frozen=True, slots=True)
class Problem:
    """`subject` is a digest, a model's name or a file; `repaired` says that the store is sound
    again, not that what was lost is back."""

    kind: ProblemKind
    subject: str
    message: str
    repaired: bool = False


@dataclass(frozen=True, slots=True)
class Findings:
    """What a check read and found."""

    blobs_checked: int
    bytes: int
    problems: tuple[Problem, ...]

    @property
    def lost(self) -> tuple[Problem, ...]:
        """Models that must be pulled or packaged again."""
        return tuple(problem for problem in self.problems if problem.kind is ProblemKind.MODEL)

    @property
    def is_sound(self) -> bool:
        """Whether the store is right as it is now, and lacks nothing."""
        return not self.lost and all(problem.repaired for problem in self.problems)


def check(
    store: ModelStore,
    *,
    repair: bool = False,
    progress: Told | None = None,
    cancelled: threading.Event | None = None,
) -> Findings:
    """Reads every blob. Others may use the store meanwhile; only the end of it locks them out.

    Raises ShuttingDown once `cancelled`, SchemaTooNew.
    """
    return _Check(store, repair, progress, cancelled or threading.Event()).run()


@dataclass(slots=True)
class _Seen:
    """A blob as it was hashed."""

    status: os.stat_result
    is_right: bool


@dataclass(slots=True)
class _Check:
    store: ModelStore
    repair: bool
    progress: Told | None
    cancelled: threading.Event
    problems: list[Problem] = field(default_factory=list)
    blobs: dict[str, _Seen] = field(default_factory=dict)
    is_list_lost: bool = False

    def run(self) -> Findings:
        links = self._links()
        self._hash_all()
        with self.store.lock.held():
            if links is None:
                self._remake_links()
            self._check_blobs(links or {})
            if links is not None or self.repair:
                self._check_models()
        return Findings(
            len(self.blobs),
            sum(seen.status.st_size for seen in self.blobs.values()),
            tuple(self.problems),
        )

    def _tell(self, kind: ProblemKind, subject: str, message: str) -> None:
        self.problems.append(Problem(kind, subject, message, repaired=self.repair))

    def _links(self) -> dict[str, Link] | None:
        try:
            return dict(self.store.blobs.links.all())
        except Conflict as error:
            self._tell(ProblemKind.LINK, "links.json", error.message)
            return None

    def _hash_all(self) -> None:
        found = dict(self.store.blobs.all())
        total, done = sum(status.st_size for status in found.values()), 0
        for digest in found:
            for count in self._hash(digest):
                done += count
                if self.progress:
                    self.progress(done, total)

    def _hash(self, digest: str) -> Iterator[int]:
        """Yields the bytes of each block, after it is hashed."""
        content = hashlib.sha256()
        try:
            with self.store.blobs.path(digest).open("rb", buffering=0) as file:
                status = os.fstat(file.fileno())
                while block := file.read(_BLOCK):
                    if self.cancelled.is_set():
                        raise ShuttingDown("the check was cancelled")
                    content.update(block)
                    yield len(block)
        except FileNotFoundError:
            return  # removed meanwhile
        self.blobs[digest] = _Seen(status, digest_from(content.hexdigest()) == digest)

    def _remake_links(self) -> None:
        """Which blobs are linked can't be told any more: any with a second name may be."""
        if not self.repair:
            return
        blobs = self.store.blobs
        self.store.blobs.links.replace(
            {
                digest: Link.of(blobs.path(digest), seen.status)
                for digest, seen in self.blobs.items()
                if seen.is_right and seen.status.st_nlink > 1
            }
        )

    def _check_blobs(self, links: dict[str, Link]) -> None:
        for digest, seen in self.blobs.items():
            link = links.get(digest)
            if not seen.is_right and self._is_same(digest, seen):
                if link:
                    self._tell(ProblemKind.LINK, digest, f"{link.path} was edited after packaging")
                else:
                    self._tell(ProblemKind.BLOB, digest, "holds other bytes than its name says")
                if self.repair:
                    self.store.blobs.remove(digest)
            elif seen.is_right and link and not link.is_still(seen.status):
                self._tell(ProblemKind.LINK, digest, f"{link.path} was touched, but not changed")
                if self.repair:
                    path = self.store.blobs.path(digest)
                    self.store.blobs.links.record(
                        digest, replace(Link.of(path, seen.status), path=link.path, mode=link.mode)
                    )

    def _is_same(self, digest: str, seen: _Seen) -> bool:
        """Whether the blob is still the file that was hashed: another one may be right."""
        try:
            now = self.store.blobs.path(digest).stat()
        except FileNotFoundError:
            return False
        return (now.st_ino, now.st_mtime_ns) == (seen.status.st_ino, seen.status.st_mtime_ns)

    def _check_models(self) -> None:
        listed, names = self._listed()
        manifests = dict(self._manifests())
        kept: dict[str, StoredModel] = {}
        for entry in listed:
            model = manifests.get(entry.id)
            fresh = self._entry(entry.id, model, entry.tags) if model else None
            if model is None or fresh is None:
                self._drop(entry)
                continue
            if fresh != entry:
                self._tell(ProblemKind.ENTRY, _shown(entry), "is listed with other particulars")
            kept[entry.id] = fresh
            self._check_bundle(fresh, model)
        for model_id, model in manifests.items():
            if model_id not in kept and model_id not in {entry.id for entry in listed}:
                fresh = self._entry(model_id, model, names.get(model_id, ()))
                if fresh:
                    self._tell(ProblemKind.UNLISTED, _shown(fresh), "is whole, but not listed")
                    kept[model_id] = fresh
        if self.repair and (self.is_list_lost or tuple(kept.values()) != listed):
            self.store.index.write(tuple(kept.values()))

    def _listed(self) -> tuple[tuple[StoredModel, ...], Mapping[str, tuple[str, ...]]]:
        """The models in the list, and the last names of those that are not in it."""
        index = self.store.index
        names = index.last_names()
        try:
            return index.entries(), names
        except SchemaTooNew:
            raise
        except Conflict as error:
            self._tell(ProblemKind.INDEX, "models.json", error.message)
            self.is_list_lost = True
            if self.repair:
                index.set_aside()
        return (), names

    def _manifests(self) -> Iterator[tuple[str, Manifest]]:
        for model_id, _ in self.store.manifests.all():
            try:
                content = self.store.manifests.read(model_id)
                manifest = parse_manifest(content)
            except (BadModelFile, ModelNotFound) as error:
                self._wrong_manifest(model_id, error.message)
                continue
            if digest_of(content) == model_id:
                yield model_id, manifest
            else:
                self._wrong_manifest(model_id, "holds other bytes than its name says")

    def _wrong_manifest(self, model_id: str, reason: str) -> None:
        self._tell(ProblemKind.MANIFEST, model_id, reason)
        if self.repair:
            self.store.manifests.remove(model_id)

    def _entry(
        self, model_id: str, manifest: Manifest, tags: tuple[str, ...]
    ) -> StoredModel | None:
        """A model as the list should have it; None where it lacks a file."""
        if not all(self._is_right(blob.digest, blob.size) for blob in manifest.blobs):
            return None
        try:
            config, created = parse_config(self.store.blobs.read(manifest.config.digest), manifest)
        except (BadModelFile, FileNotFoundError):
            return None
        return stored_model(model_id, manifest, config, created, tags).listed()

    def _is_right(self, digest: str, size: int) -> bool:
        """A blob that came after the others were hashed was checked as it came."""
        seen = self.blobs.get(digest)
        if seen and not seen.is_right and self._is_same(digest, seen):
            return False
        return self.store.blobs.size(digest) == size

    def _drop(self, entry: StoredModel) -> None:
        self._tell(
            ProblemKind.MODEL, _shown(entry), "has lost files: pull or package the model again"
        )
        if self.repair:
            self.store.bundles.remove(entry.id)
            self.store.manifests.remove(entry.id)

    def _check_bundle(self, entry: StoredModel, manifest: Manifest) -> None:
        if not self.store.bundles.is_whole(entry.id, manifest, entry.config):
            self._tell(ProblemKind.BUNDLE, _shown(entry), "its bundle is not as it was made")
            if self.repair:
                self.store.bundles.remove(entry.id)


def _shown(entry: StoredModel) -> str:
    return ", ".join(entry.tags) or entry.id
