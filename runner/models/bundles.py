"""Bundles: a model's files under the names that engines expect, as hard links to its blobs."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runner.errors import Conflict, Unsupported
from runner.models.artifact import Layer, Manifest
from runner.models.blobs import Blobs
from runner.models.files import explained, sync_folder
from runner.models.media import LayerKind
from runner.registry.digest import hex_of

CHAT_TEMPLATE = "template.jinja"
MMPROJ = "model.mmproj"
_NO_LINK = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EACCES})


@dataclass(frozen=True, slots=True)
class Bundle:
    """What an engine is given: a folder to read, and absolute paths of the files in it.

    `model_file` is the first of several shards. `size` is the bytes of all files.
    """

    folder: Path
    model_file: Path
    chat_template: Path | None
    mmproj: Path | None
    size: int


class Bundles:
    """`bundles/sha256/<hex>/model/`, made when first asked for."""

    def __init__(self, root: Path, blobs: Blobs) -> None:
        self._folder = root / "bundles" / "sha256"
        self._blobs = blobs

    def bundle(self, model_id: str, manifest: Manifest) -> Bundle:
        """Raises Unsupported for weights that are no GGUF, Conflict where blobs are missing,
        DiskFull."""
        names = dict(_names(manifest))
        if not names:
            raise Unsupported("only GGUF models can be served yet")
        target = self._folder / hex_of(model_id)
        with explained(target):
            if not self._is_whole(target / "model", names):
                self._make(target, names)
        return _bundle(target / "model", names)

    def remove(self, model_id: str) -> None:
        shutil.rmtree(self._folder / hex_of(model_id), ignore_errors=True)

    def _is_whole(self, folder: Path, names: dict[str, Layer]) -> bool:
        try:
            return all((folder / n).stat().st_size == layer.size for n, layer in names.items())
        except (FileNotFoundError, NotADirectoryError):
            return False

    def _make(self, target: Path, names: dict[str, Layer]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        temporary = self._folder / f".{secrets.token_hex(8)}"
        folder = temporary / "model"
        try:
            folder.mkdir(parents=True)
            for name, layer in names.items():
                self._place(layer, folder / name)
            for made in (temporary, folder):
                made.chmod(0o755)  # engines run as other users, whatever our umask
            self._publish(temporary, target, names)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _publish(self, temporary: Path, target: Path, names: dict[str, Layer]) -> None:
        try:
            temporary.rename(target)
        except OSError as error:
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            if not self._is_whole(target / "model", names):  # else another process was quicker
                shutil.rmtree(target, ignore_errors=True)
                temporary.rename(target)
        sync_folder(self._folder)

    def _place(self, layer: Layer, path: Path) -> None:
        blob = self._blobs.path(layer.digest)
        if self._blobs.size(layer.digest) != layer.size:
            raise Conflict(
                f"the model's file {layer.digest} is missing in the store",
                hint="pull or package the model again",
            )
        try:
            os.link(blob, path)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            shutil.copyfile(blob, path)
            path.chmod(0o444)


def _names(manifest: Manifest) -> Iterator[tuple[str, Layer]]:
    weights = manifest.of(LayerKind.GGUF)
    for number, layer in enumerate(weights, 1):
        shard = f"model-{number:05d}-of-{len(weights):05d}.gguf"
        yield shard if len(weights) > 1 else "model.gguf", layer
    if weights:
        yield from ((CHAT_TEMPLATE, layer) for layer in manifest.of(LayerKind.CHAT_TEMPLATE))
        yield from ((MMPROJ, layer) for layer in manifest.of(LayerKind.MMPROJ))


def _bundle(folder: Path, names: dict[str, Layer]) -> Bundle:
    return Bundle(
        folder=folder,
        model_file=folder / next(iter(names)),
        chat_template=folder / CHAT_TEMPLATE if CHAT_TEMPLATE in names else None,
        mmproj=folder / MMPROJ if MMPROJ in names else None,
        size=sum(layer.size for layer in names.values()),
    )
