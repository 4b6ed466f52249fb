"""models.json: which models the store holds and what they are called."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from runner.errors import Conflict
from runner.store.files import write_whole
from runner.store.lock import StoreLock
from runner.store.manifests import Manifests
from runner.store.stored import StoredModel


@dataclass(frozen=True, slots=True)
class _Document:
    models: tuple[StoredModel, ...]


Models = tuple[StoredModel, ...]
Generation = tuple[int, int, int]
"""Changes whenever the index does: modification time, inode, size; zeros for no index yet."""

_DECODER = msgspec.json.Decoder(_Document)


class Index:
    """The file, read afresh when it has changed; changed only while the store is locked."""

    def __init__(self, root: Path, lock: StoreLock) -> None:
        self._file = root / "models.json"
        self._previous = root / "models.json.previous"
        self._manifests = Manifests(root)
        self._lock = lock
        self._cache: tuple[Generation, Models] | None = None

    def generation(self) -> Generation:
        try:
            status = self._file.stat()
        except FileNotFoundError:
            return (0, 0, 0)
        return (status.st_mtime_ns, status.st_ino, status.st_size)

    def exists(self) -> bool:
        return self._file.exists()

    def entries(self) -> Models:
        """Raises SchemaTooNew for a newer program's store, Conflict for an index that is
        unreadable or gone: an empty one in its place would have every model pruned."""
        generation = self.generation()
        cache = self._cache
        if cache and cache[0] == generation:
            return cache[1]
        self._lock.check_layout()
        if generation == (0, 0, 0):
            self._refuse_lost()
            return ()
        entries = self._read()
        self._cache = (generation, entries)
        return entries

    def write(self, entries: Sequence[StoredModel]) -> None:
        """Replaces the index atomically and keeps the one before, whose names a repair can use.

        To be called while the lock is held.
        """
        document = {"models": [_document(entry) for entry in entries]}
        self._keep_previous()
        write_whole(self._file, msgspec.json.encode(document))

    def last_names(self) -> Mapping[str, tuple[str, ...]]:
        """Models' tags by their IDs, from what can still be read of the last two indexes; a tag
        that moved between them is where the newer one has it."""
        names: dict[str, tuple[str, ...]] = {}
        for file in (self._file, self._previous):
            taken = {tag for tags in names.values() for tag in tags}
            for entry in _readable(file):
                names.setdefault(entry.id, tuple(tag for tag in entry.tags if tag not in taken))
        return names

    def forget_previous(self) -> None:
        """Frees what the index before this one takes. To be called while the lock is held."""
        self._previous.unlink(missing_ok=True)

    def set_aside(self) -> None:
        """Moves an index that can't be read out of the way, for a person to look at."""
        with suppress(FileNotFoundError):
            self._file.replace(self._file.with_name("models.json.unreadable"))

    def _keep_previous(self) -> None:
        if not self.exists():
            return
        temporary = self._previous.with_name(f".{self._previous.name}.{secrets.token_hex(8)}")
        try:
            try:
                os.link(self._file, temporary)
            except OSError:
                shutil.copyfile(self._file, temporary)  # no hard links here
            temporary.replace(self._previous)
        finally:
            temporary.unlink(missing_ok=True)

    def _refuse_lost(self) -> None:
        has_been = self._previous.exists() or any(self._manifests.all())
        if has_been and not self.exists():  # it may just have come into being
            raise Conflict(
                f"the list of models {self._file} is gone",
                hint="runner check --repair makes it anew from the manifests",
            )

    def _read(self) -> Models:
        try:
            return _DECODER.decode(self._file.read_bytes()).models
        except FileNotFoundError:
            return ()
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Conflict(
                f"the list of models {self._file} is not readable",
                hint="runner check --repair makes it anew from the manifests",
            ) from error


def _readable(file: Path) -> Models:
    with suppress(FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _DECODER.decode(file.read_bytes()).models
    return ()


def _document(entry: StoredModel) -> dict[str, object]:
    return {
        "id": entry.id,
        "tags": entry.tags,
        "files": entry.files,
        "created": entry.created,
        "size": entry.size,
        "config": entry.config.to_json(),
    }
