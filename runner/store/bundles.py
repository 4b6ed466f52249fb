"""Bundles: a model's files under the names that engines expect, as hard links to its blobs."""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from runner.artifacts.artifact import Layer, Manifest, ModelConfig
from runner.errors import Conflict
from runner.registry.digest import hex_of
from runner.store.blobs import ABANDONED_AFTER, Blobs
from runner.store.bundle import FOLDER, Bundle, Mark, Record, describe, read_record, write_record
from runner.store.files import explained, sync_folder
from runner.store.placements import Placement, placements
from runner.store.tree import FILE_MODE, FOLDER_MODE, Tree

__all__ = ["Bundle", "Bundles"]

_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES})
_TAKEN = frozenset({errno.ENOTEMPTY, errno.EEXIST})
_ATTEMPTS = 3
_UNFINISHED = "."


class Bundles:
    """`bundles/sha256/<hex>/`, made when first asked for: the files in `model/`, and beside it
    `bundle.json`, which says what was made of which blobs. A bundle is trusted only while all of
    these are as recorded; it comes into being by a rename, so that half of one is never seen.
    """

    def __init__(self, root: Path, blobs: Blobs) -> None:
        self._folder = root / "bundles" / "sha256"
        self._blobs = blobs

    def bundle(self, model_id: str, manifest: Manifest, config: ModelConfig) -> Bundle:
        """Raises BadModelFile for archives that can't be unpacked and for a model without
        weights, Conflict where blobs are missing or a linked one has changed, DiskFull."""
        places = placements(manifest, config.format)
        for place in places:
            self._blobs.check_link(place.layer.digest)
        target = self.folder(model_id)
        with explained(target):
            record = self._whole(target, places)
            if record is None:
                self._make(target, places, config)
                record = self._whole(target, places)
        if record is None:
            raise Conflict(f"the files of {model_id} keep changing", hint="try again")
        return record.bundle(target)

    def is_whole(self, model_id: str, manifest: Manifest, config: ModelConfig) -> bool:
        """Whether a model's bundle is as it was made, of the blobs that are here now; so where
        it has none yet."""
        target = self.folder(model_id)
        places = placements(manifest, config.format)
        if not target.exists():
            return True
        return self._whole(target, places) is not None and all(
            self._is_own(target / FOLDER / place.name, place)
            for place in places
            if not place.is_archive
        )

    def _is_own(self, path: Path, place: Placement) -> bool:
        """Whether a file is a link to its blob, or a copy that has no other name."""
        status = path.lstat()
        return status.st_nlink == 1 or os.path.samestat(
            status, self._blobs.path(place.layer.digest).stat()
        )

    def folder(self, model_id: str) -> Path:
        """Where a model's bundle lies once it is made."""
        return self._folder / hex_of(model_id)

    def remove(self, model_id: str) -> None:
        shutil.rmtree(self.folder(model_id), ignore_errors=True)

    def sweep(self) -> None:
        """Removes what makers who have died left unfinished."""
        for path in self._folder.glob(f"{_UNFINISHED}*"):
            try:
                if abs(time.time() - path.stat().st_mtime) > ABANDONED_AFTER:
                    with _locked(path):
                        shutil.rmtree(path)
            except OSError:
                continue  # its maker lives, or has just renamed it

    def _whole(self, target: Path, places: tuple[Placement, ...]) -> Record | None:
        """The record of a bundle that is as it was made, of the blobs that are here now."""
        record = read_record(target)
        if record is None or not record.is_kept(target):
            return None
        try:
            return record if record.blobs == self._marks(places) else None
        except FileNotFoundError:
            return None

    def _marks(self, places: tuple[Placement, ...]) -> dict[str, Mark]:
        """What changes when a blob is replaced or written to."""
        marks: dict[str, Mark] = {}
        for place in places:
            status = self._blobs.path(place.layer.digest).stat()
            marks[place.layer.digest] = (status.st_ino, status.st_size, status.st_mtime_ns)
        return marks

    def _make(self, target: Path, places: tuple[Placement, ...], config: ModelConfig) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self.sweep()
        for place in places:
            self._blobs.require(place.layer.digest, place.layer.size)
        temporary = self._folder / f"{_UNFINISHED}{secrets.token_hex(8)}"
        temporary.mkdir()
        try:
            with _locked(temporary):
                temporary.chmod(FOLDER_MODE)  # engines run as other users, whatever our umask
                tree = Tree(temporary / FOLDER)
                marks = self._marks(places)
                self._fill(tree, places)
                write_record(temporary, describe(tree, places, config, marks))
                self._publish(temporary, target, places)
        except FileNotFoundError as error:
            raise Conflict(
                "a file of the model was removed meanwhile", hint="pull or package it again"
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _fill(self, tree: Tree, places: tuple[Placement, ...]) -> None:
        """Links first: an archive can't take a name from a file of the manifest."""
        for place in places:
            if not place.is_archive:
                self._link(self._blobs.path(place.layer.digest), tree.place(place.name))
        self._unpack(tree, [place.layer for place in places if place.is_archive])
        tree.sync()

    def _unpack(self, tree: Tree, archives: Sequence[Layer]) -> None:
        if not archives:
            return
        from runner.store.unpack import Unpacker

        self._blobs.require_space(sum(layer.size for layer in archives))
        unpacker = Unpacker(tree, self._blobs.require_space)
        for layer in archives:
            unpacker.unpack(self._blobs.path(layer.digest), layer.packing)

    def _link(self, blob: Path, path: Path) -> None:
        try:
            os.link(blob, path)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            self._copy(blob, path)

    def _copy(self, blob: Path, path: Path) -> None:
        self._blobs.require_space(blob.stat().st_size)
        shutil.copyfile(blob, path)
        path.chmod(FILE_MODE)
        with path.open("rb") as file:
            os.fsync(file.fileno())

    def _publish(self, temporary: Path, target: Path, places: tuple[Placement, ...]) -> None:
        for _ in range(_ATTEMPTS):
            try:
                temporary.rename(target)
                break
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
            if self._whole(target, places):
                return  # another process was quicker
            shutil.rmtree(target, ignore_errors=True)
        sync_folder(self._folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Says that the folder's maker lives; raises OSError where another one holds it."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
