"""A model in the store, as the index holds it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from msgspec import structs

from runner.artifacts.artifact import Manifest, ModelConfig
from runner.artifacts.media import ModelFormat
from runner.registry.digest import SHORT_ID, hex_of


@dataclass(frozen=True, slots=True)
class StoredModel:
    """One model. `id` is `sha256:` and its manifest's digest, `tags` are in the long spelling,
    `files` the digests of all its blobs, `created` is seconds since 1970, `size` the bytes of its
    layers. In the index, `config` is without metadata, which would make listing slow."""

    id: str
    tags: tuple[str, ...]
    files: tuple[str, ...]
    created: int = 0
    size: int = 0
    config: ModelConfig = field(default_factory=lambda: ModelConfig(ModelFormat.GGUF))

    @property
    def short_id(self) -> str:
        return hex_of(self.id)[:SHORT_ID]

    def listed(self) -> StoredModel:
        """As the index has it."""
        return replace(self, config=structs.replace(self.config, metadata={}))

    def untagged(self, tag: str) -> StoredModel:
        if tag not in self.tags:
            return self
        return replace(self, tags=tuple(other for other in self.tags if other != tag))

    def tagged(self, tag: str) -> StoredModel:
        return self if tag in self.tags else replace(self, tags=(*self.tags, tag))


def stored_model(
    model_id: str, manifest: Manifest, config: ModelConfig, created: int, tags: tuple[str, ...]
) -> StoredModel:
    """A model of its documents, with all that its config says."""
    return StoredModel(
        id=model_id,
        tags=tags,
        files=tuple(blob.digest for blob in manifest.blobs),
        created=created,
        size=manifest.size,
        config=config,
    )
