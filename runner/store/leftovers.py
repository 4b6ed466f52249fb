"""What lies in the store and belongs to no model: found, measured, removed.

Blobs come in before the model that they belong to, and a broken pull leaves what the next one
goes on from. So what is young stays, and so does everything while a transfer is under way. Should
a blob be gone all the same when its model is entered, then entering it says so, and the pull
fetches it again.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.registry.digest import PREFIX, is_digest

if TYPE_CHECKING:
    from runner.store.store import ModelStore

KEPT_FOR = 24 * 3600.0
"""Seconds for which blobs without a model and partial downloads are kept."""

_STAT_BLOCK = 512
_UNWRITTEN = re.compile(r"\..+\.[0-9a-f]{16}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was removed: how many of each kind, and the bytes that it freed. `kept` is the bytes
    that could go too, but are young or wanted by a transfer that is under way; `unnamed` counts
    the models without a name that stay."""

    blobs: int = 0
    manifests: int = 0
    bundles: int = 0
    partials: int = 0
    freed: int = 0
    kept: int = 0
    models: int = 0
    unnamed: int = 0


@dataclass(frozen=True, slots=True)
class PartialFile:
    """A broken or running download. `size` is the bytes on the disk, `changed` seconds since
    1970."""

    path: Path
    size: int
    changed: float

    @property
    def is_alive(self) -> bool:
        return _is_locked(self.path)

    def remove(self) -> bool:
        """False where somebody is writing it."""
        with taken(self.path, create=True) as is_ours:
            if is_ours:
                _journal(self.path).unlink(missing_ok=True)
                self.path.unlink(missing_ok=True)
            return is_ours


def partial_files(root: Path) -> tuple[PartialFile, ...]:
    """Every partial download; also one of which only the journal is left, because its program
    was killed when it had just become a blob."""
    names = {path.name.removesuffix(".log") for path in (root / "partial").glob("*")}
    paths = (root / "partial" / name for name in sorted(names) if is_digest(PREFIX + name))
    return tuple(found for path in paths if (found := _partial_file(path)))


def _partial_file(path: Path) -> PartialFile | None:
    for file in (path, _journal(path)):
        with suppress(FileNotFoundError):
            status = file.stat()
            return PartialFile(path, status.st_blocks * _STAT_BLOCK, status.st_mtime)
    return None


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}.log")


def orphan_blobs(store: ModelStore) -> Mapping[str, os.stat_result]:
    """Blobs that no model uses. Raises Conflict where the index can't be read."""
    used = {digest for entry in store.index.entries() for digest in entry.files}
    return {digest: status for digest, status in store.blobs.all() if digest not in used}


def blob_bytes(store: ModelStore, digest: str, status: os.stat_result) -> int:
    """What a blob takes for itself: a link to somebody's file takes nothing."""
    return 0 if store.blobs.links.get(digest) else status.st_size


def bundle_bytes(folder: Path) -> int:
    """What a bundle takes for itself: files that are no links to blobs."""
    with suppress(FileNotFoundError):  # its maker may be renaming it
        files = (path.lstat() for path in folder.rglob("*") if not path.is_dir())
        return sum(status.st_size for status in files if status.st_nlink == 1)
    return 0


def prune(store: ModelStore, *, everything: bool = False, keep: Collection[str] = ()) -> Pruned:
    """Removes what belongs to no model; of blobs and partial downloads what is older than a day.
    With `everything` all of these, and models without a name that are not in `keep`. While a
    transfer is under way, all blobs and its own files stay."""
    store.blobs.sweep()
    store.bundles.sweep()
    may_go = _always if everything else _is_old
    with store.lock.held():
        blobs = _prune_blobs(store, may_go)
        bundles = _prune_bundles(store)
        manifests = _prune_manifests(store)
        models = _prune_unnamed(store, keep) if everything else _Tally()
        unnamed = sum(not entry.tags for entry in store.index.entries())
        _remove_unwritten(store)
    found = _prune_partials(partial_files(store.root), may_go)
    parts = (blobs, bundles, manifests, models, found)
    return Pruned(
        models=models.count,
        unnamed=unnamed,
        blobs=blobs.count,
        manifests=manifests.count,
        bundles=bundles.count,
        partials=found.count,
        freed=sum(part.freed for part in parts),
        kept=sum(part.kept for part in parts),
    )


@dataclass(slots=True)
class _Tally:
    count: int = 0
    freed: int = 0
    kept: int = 0


def _always(_: float) -> bool:
    return True


def _is_old(changed: float) -> bool:
    """A time far in the future is one of a clock that was wrong."""
    return abs(time.time() - changed) > KEPT_FOR


def _prune_blobs(store: ModelStore, may_go: Callable[[float], bool]) -> _Tally:
    """Looks for transfers after the blobs: one whose blobs are here has begun before."""
    tally, gone = _Tally(), list[str]()
    orphans = orphan_blobs(store)
    is_busy = _is_writing(store.root)
    for digest, status in orphans.items():
        size = blob_bytes(store, digest, status)
        if not is_busy and may_go(status.st_ctime):
            gone.append(digest)
            tally.freed += size
        else:
            tally.kept += size
    present = {digest for digest, _ in store.blobs.all()}
    store.blobs.remove(*gone, *(d for d in store.blobs.links.all() if d not in present))
    tally.count = len(gone)
    return tally


def _prune_bundles(store: ModelStore) -> _Tally:
    tally, models = _Tally(), {entry.id for entry in store.index.entries()}
    for folder in (store.root / "bundles" / "sha256").glob("*"):
        model_id = PREFIX + folder.name
        if is_digest(model_id) and model_id not in models:
            tally.freed += bundle_bytes(folder)
            tally.count += 1
            store.bundles.remove(model_id)
    return tally


def _prune_manifests(store: ModelStore) -> _Tally:
    tally, models = _Tally(), {entry.id for entry in store.index.entries()}
    for model_id, size in store.manifests.all():
        if model_id not in models:
            store.manifests.remove(model_id)
            tally.count += 1
            tally.freed += size
    return tally


def _prune_unnamed(store: ModelStore, keep: Collection[str]) -> _Tally:
    """Models whose last name another one has taken."""
    others = [e for e in store.index.entries() if e.tags or e.id in keep]
    kept = {entry.id for entry in others}
    gone = [entry for entry in store.index.entries() if entry.id not in kept]
    if not gone:
        return _Tally()
    files = {digest for e in gone for digest in e.files}
    files -= {digest for e in others for digest in e.files}
    own = sum(store.blobs.size(d) or 0 for d in files if not store.blobs.links.get(d))
    copies = sum(bundle_bytes(store.bundles.folder(entry.id)) for entry in gone)
    store.purge(keep=kept)
    return _Tally(len(gone), own + copies)


def _prune_partials(partials: tuple[PartialFile, ...], may_go: Callable[[float], bool]) -> _Tally:
    tally = _Tally()
    for partial in partials:
        if may_go(partial.changed) and partial.remove():
            tally.count += 1
            tally.freed += partial.size
        else:
            tally.kept += partial.size
    return tally


def _remove_unwritten(store: ModelStore) -> None:
    """Files that were to replace others, by programs that were killed. Living ones write them
    while they hold the lock."""
    for folder in (store.root, store.manifests.folder):
        for path in folder.glob(".*"):
            if _UNWRITTEN.fullmatch(path.name):
                path.unlink(missing_ok=True)


def _is_writing(root: Path) -> bool:
    return any(partial.is_alive for partial in partial_files(root)) or any(
        _is_locked(path) for path in (root / "tmp").glob("*.part")
    )


def _is_locked(path: Path) -> bool:
    with taken(path) as is_ours:
        return not is_ours and path.exists()


@contextmanager
def taken(path: Path, *, create: bool = False) -> Iterator[bool]:
    """Takes a file's lock; whether it was free. A file that is gone or replaced is not."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT if create else os.O_RDONLY, 0o644)
    except OSError:
        yield False
        return
    try:
        yield _lock(handle, path)
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False
