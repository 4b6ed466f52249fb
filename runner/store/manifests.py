"""`manifests/sha256/<hex>`: each model's manifest, its own bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from runner.errors import ModelNotFound
from runner.registry.digest import PREFIX, digest_of, hex_of, is_digest
from runner.store.files import write_whole

_MODE = 0o444


class Manifests:
    """Named by their digests, which are the models' IDs."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "manifests" / "sha256"

    def read(self, model_id: str) -> bytes:
        """Raises ModelNotFound."""
        try:
            return self._path(model_id).read_bytes()
        except FileNotFoundError as error:
            raise ModelNotFound(
                f"the manifest {model_id} is not in the store",
                hint="runner check --repair puts the list of models right",
            ) from error

    def write(self, manifest: bytes) -> str:
        """Keeps a manifest; returns its digest. To be called while the lock is held."""
        model_id = digest_of(manifest)
        write_whole(self._path(model_id), manifest, mode=_MODE)
        return model_id

    def remove(self, model_id: str) -> None:
        """To be called while the lock is held."""
        self._path(model_id).unlink(missing_ok=True)

    def all(self) -> Iterator[tuple[str, int]]:
        """Every manifest's digest and size, in no order."""
        for path in self.folder.glob("*"):
            if is_digest(PREFIX + path.name):
                yield PREFIX + path.name, path.stat().st_size

    def _path(self, model_id: str) -> Path:
        return self.folder / hex_of(model_id)
