"""OCI layouts: folders that hold one artifact, as the specification describes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def write_layout(folder: Path, manifest: bytes, blobs: Iterable[bytes], tag: str = "it") -> Path:
    place = folder / "blobs" / "sha256"
    place.mkdir(parents=True)
    for content in (manifest, *blobs):
        (place / _hex(content)).write_bytes(content)
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    entry = {
        "mediaType": OCI_MANIFEST,
        "digest": f"sha256:{_hex(manifest)}",
        "size": len(manifest),
        "annotations": {"org.opencontainers.image.ref.name": tag},
    }
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    return folder


def read_layout(folder: Path) -> set[bytes]:
    """Every blob; fails where one is not what its name says."""
    found = {path.name: path.read_bytes() for path in (folder / "blobs" / "sha256").iterdir()}
    assert all(_hex(content) == name for name, content in found.items())
    return set(found.values())


def _hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
