"""Model artifacts made by hand: documents as JSON, straight into a store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from runner.artifacts.media import Dialect
from runner.store.store import ModelStore
from runner.store.stored import StoredModel

DOCKER = "application/vnd.docker.ai."
CNCF = "application/vnd.cncf.model."
FILE_PATH = "org.cncf.model.filepath"


@dataclass(frozen=True)
class Part:
    """A layer: its media type, its bytes, and its path."""

    media_type: str
    content: bytes
    path: str = ""

    @property
    def descriptor(self) -> dict[str, object]:
        annotations = {FILE_PATH: self.path} if self.path else {}
        return descriptor(self.media_type, self.content) | {"annotations": annotations}


def docker(kind: str, content: bytes, path: str = "") -> Part:
    return Part(DOCKER + kind, content, path)


def cncf(kind: str, content: bytes, path: str = "") -> Part:
    return Part(CNCF + kind, content, path)


def descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "size": len(content), "digest": digest(content)}


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def documents(
    dialect: Dialect, parts: Sequence[Part], config: Mapping[str, object]
) -> tuple[bytes, bytes]:
    """The manifest and the config blob; `config` is the inner object."""
    blob = json.dumps({"config": config}).encode()
    manifest = {
        "schemaVersion": 2,
        "config": descriptor(dialect.value, blob),
        "layers": [part.descriptor for part in parts],
    }
    return json.dumps(manifest).encode(), blob


@dataclass(frozen=True)
class Artifact:
    dialect: Dialect
    parts: Sequence[Part]
    config: Mapping[str, object] = field(default_factory=lambda: {"format": "gguf"})

    def enter(self, store: ModelStore, name: str = "hand/made") -> StoredModel:
        for part in self.parts:
            store.blobs.add_bytes(part.content)
        manifest, config = documents(self.dialect, self.parts, self.config)
        return store.commit(manifest, config, store.reference(name))
