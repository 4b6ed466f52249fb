"""A hub's files on their way into the store: what each is for, and how each gets there."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from runner.artifacts.artifact import parse_manifest
from runner.artifacts.artifact_writer import PackedFile
from runner.artifacts.layer_paths import check_paths, safe_path
from runner.artifacts.media import LayerKind, kind_of_file
from runner.errors import BadModelFile, Unsupported
from runner.hubs.choice import Choice, Shape, best_projector
from runner.hubs.listing import HubFile, git_id_of
from runner.hubs.quantization import PROJECTORS
from runner.models.progress import LayerProgress, Progress, TransferMode
from runner.registry.reference import Reference
from runner.store.downloads import Wanted
from runner.store.store import ModelStore
from runner.weights.gguf import parse_gguf, read_gguf
from runner.weights.gguf_header import NeedsMore

if TYPE_CHECKING:
    from runner.hubs.repository import Repository

MAX_SMALL_FILE = 16 * 1024 * 1024
FIRST_HEADER = 256 * 1024
MAX_HEADER = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A hub's file, what it is for and what the model calls it."""

    kind: LayerKind
    name: str
    file: HubFile


def plan(store: ModelStore, repository: Repository, choice: Choice) -> tuple[PlannedFile, ...]:
    """The files of a choice in the order of their layers, with the projector that fits best and
    the licences. Raises BadModelFile for names that can't lie in one folder."""
    if choice.shape is Shape.FOLDER:
        in_order = sorted(choice.files, key=lambda file: file.path.split("/"))
        planned = [PlannedFile(kind_of_file(file.path), file.path, file) for file in in_order]
    else:
        planned = [_named_plainly(kind_of_file(file.path), file) for file in choice.files]
        if choice.projectors:
            projector = _projector(store, repository, choice.projectors)
            planned.append(_named_plainly(LayerKind.MMPROJ, projector))
        planned += [_named_plainly(LayerKind.LICENSE, file) for file in _licences(repository)]
    check_paths(safe_path(entry.name) for entry in planned)
    return tuple(planned)


class HubFetch:
    """Brings planned files into the store."""

    def __init__(
        self,
        store: ModelStore,
        repository: Repository,
        reference: Reference,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self._store = store
        self._repository = repository
        self._reference = reference
        self._progress = progress
        self._stop = stop
        self.fetched = 0

    def fetch(self, planned: Sequence[PlannedFile]) -> tuple[PackedFile, ...]:
        """The small files that only git's SHA-1 is known of first, then all others. `fetched`
        counts those that came over the network."""
        known = _SmallFiles(self._store, self._reference)
        packed = []
        for entry in planned:
            digest = entry.file.digest or known.digest_of(entry.file) or self._read(entry.file)
            packed.append(PackedFile(entry.kind, entry.name, digest, entry.file.size))
        self._download(planned, {file.digest: file for file in packed})
        return tuple(packed)

    def _read(self, file: HubFile) -> str:
        if file.size > MAX_SMALL_FILE:
            raise Unsupported(
                f"{file.path} has {file.size} bytes, and the hub knows no SHA-256 of it",
                hint="its makers can keep it in Git LFS",
            )
        content = self._repository.read(file, file.size)
        file.check(content)
        self.fetched += 1
        return self._store.blobs.add_bytes(content)

    def _download(self, planned: Sequence[PlannedFile], packed: dict[str, PackedFile]) -> None:
        total = sum(file.size for file in packed.values())
        reports = {
            digest: LayerProgress(
                self._progress, TransferMode.PULL, total=total, layer=digest, size=file.size
            )
            for digest, file in packed.items()
        }
        hashed = {entry.file.digest: entry.file for entry in planned if entry.file.digest}
        missing = [d for d, file in hashed.items() if self._store.blobs.size(d) != file.size]
        self.fetched += len(missing)
        wanted = [
            Wanted(digest, file.size, self._repository.source(file))
            for digest, file in hashed.items()
        ]
        self._store.downloads.fetch(wanted, lambda digest, done: reports[digest](done), self._stop)
        for digest in packed.keys() - hashed.keys():
            reports[digest](packed[digest].size)


class _SmallFiles:
    """Files that earlier pulls from the same repository have left, by what git calls them."""

    def __init__(self, store: ModelStore, reference: Reference) -> None:
        self._store = store
        self._name = reference.name
        self._sizes: dict[int, set[str]] | None = None
        self._digests: dict[str, str] = {}

    def digest_of(self, file: HubFile) -> str:
        """The digest of a blob that is this file, empty where none is."""
        for digest in self._blobs().get(file.size, set()):
            git_id = self._git_id(digest)
            if git_id:
                self._digests[git_id] = digest
        self._blobs().pop(file.size, None)
        return self._digests.get(file.git_id, "")

    def _git_id(self, digest: str) -> str:
        try:
            return git_id_of(self._store.blobs.read(digest))
        except FileNotFoundError:
            return ""

    def _blobs(self) -> dict[int, set[str]]:
        if self._sizes is None:
            self._sizes = {}
            for model in self._store.list():
                if any(tag.startswith((f"{self._name}:", f"{self._name}@")) for tag in model.tags):
                    for layer in parse_manifest(self._store.manifest(model.id)).layers:
                        if layer.size <= MAX_SMALL_FILE:
                            self._sizes.setdefault(layer.size, set()).add(layer.digest)
        return self._sizes


def _named_plainly(kind: LayerKind, file: HubFile) -> PlannedFile:
    return PlannedFile(kind, PurePosixPath(file.path).name, file)


def _licences(repository: Repository) -> Iterable[HubFile]:
    return [
        file
        for file in repository.listing.files
        if "/" not in file.path
        and kind_of_file(file.path) is LayerKind.LICENSE
        and file.size <= MAX_SMALL_FILE
    ]


def _projector(store: ModelStore, repository: Repository, candidates: Sequence[HubFile]) -> HubFile:
    """Chosen by what its own header says; asked over the network only as far as that decides."""
    if len(candidates) == 1:
        return candidates[0]
    found: list[tuple[HubFile, str]] = []
    here_first = sorted(candidates, key=lambda f: store.blobs.size(f.digest) != f.size)
    for file in here_first:
        found.append((file, _precision(store, repository, file)))
        if found[-1][1] == PROJECTORS[0]:
            break
    return best_projector(found)


def _precision(store: ModelStore, repository: Repository, file: HubFile) -> str:
    if file.digest and store.blobs.size(file.digest) == file.size:
        return read_gguf(store.blobs.path(file.digest)).quantization
    wanted = FIRST_HEADER
    while True:
        content = repository.read(file, wanted)
        try:
            return parse_gguf(content, file.size).quantization
        except NeedsMore as more:
            if wanted >= min(MAX_HEADER, file.size):
                raise BadModelFile(
                    f"{file.path} has no end to its header",
                    hint="it is broken where it is kept: name another file or repository",
                ) from more
            wanted *= 2
        except BadModelFile as error:
            raise BadModelFile(f"{file.path} {error.message}", hint=error.hint) from error
