"""What the store takes on the disk, and whom it serves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from runner.registry.digest import hex_of
from runner.store.leftovers import blob_bytes, bundle_bytes, orphan_blobs, partial_files
from runner.store.store import ModelStore


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """One model, in bytes: `size` of all its files, `own` of those that no other model has;
    `bundle` is what was unpacked or copied for engines beside them."""

    id: str
    tags: tuple[str, ...]
    size: int
    own: int
    bundle: int


@dataclass(frozen=True, slots=True)
class Usage:
    """The store, in bytes that its disk holds.

    `blobs` counts each file of all models once, `linked` what other people's files hold for us
    (not part of it), `bundles` files that were unpacked or copied for engines, `partials` broken
    and running downloads, `orphans` blobs of no model: what `prune` may free.
    """

    models: tuple[ModelUsage, ...]
    blobs: int
    linked: int
    bundles: int
    partials: int
    orphans: int

    @property
    def total(self) -> int:
        return self.blobs + self.bundles + self.partials + self.orphans


def disk_usage(store: ModelStore) -> Usage:
    """Raises Conflict where the index can't be read."""
    orphans = orphan_blobs(store)
    present = {digest: status for digest, status in store.blobs.all() if digest not in orphans}
    users = Counter(digest for entry in store.index.entries() for digest in set(entry.files))
    sizes = {digest: status.st_size for digest, status in present.items()}
    models = tuple(
        ModelUsage(
            id=entry.id,
            tags=entry.tags,
            size=sum(sizes.get(digest, 0) for digest in set(entry.files)),
            own=sum(sizes.get(digest, 0) for digest in set(entry.files) if users[digest] == 1),
            bundle=bundle_bytes(store.root / "bundles" / "sha256" / hex_of(entry.id)),
        )
        for entry in store.index.entries()
    )
    own = {digest: blob_bytes(store, digest, status) for digest, status in present.items()}
    return Usage(
        models=models,
        blobs=sum(own.values()),
        linked=sum(sizes.values()) - sum(own.values()),
        bundles=sum(model.bundle for model in models),
        partials=sum(partial.size for partial in partial_files(store.root)),
        orphans=sum(blob_bytes(store, d, status) for d, status in orphans.items()),
    )
