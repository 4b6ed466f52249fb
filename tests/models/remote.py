"""Models in a test registry: of any size, and without a store that they come from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection

from runner.artifacts.media import CONFIG_V01
from tests.registry.content import Content, Generated, content_of, digest_of
from tests.registry.server import Registry

SHARD = "application/vnd.docker.ai.gguf.v3"


@dataclass(frozen=True)
class Remote:
    """A manifest, and all that it names by digest."""

    manifest: bytes
    config: bytes
    layers: Mapping[str, bytes | Generated]

    @property
    def id(self) -> str:
        return digest_of(self.manifest)

    @property
    def blobs(self) -> Mapping[str, bytes | Content]:
        return {digest_of(self.config): self.config, **self.layers}

    @property
    def size(self) -> int:
        """Bytes of all layers."""
        return sum(content_of(blob).size for blob in self.layers.values())

    def serve(self, registry: Registry, name: str = "a/b/1") -> None:
        """Puts it into a registry of this process, all but what takes its place there."""
        registry.blobs.update(self.blobs)
        registry.manifests[name] = self.manifest

    def upload(self, address: str, repository: str, tag: str) -> None:
        """Puts it into any registry, by plain requests."""
        host, _, port = address.partition(":")
        with closing(HTTPConnection(host, int(port), timeout=60)) as connection:
            for digest, blob in self.blobs.items():
                content = content_of(blob)
                place = _asked(connection, "POST", f"/v2/{repository}/blobs/uploads/", b"", 202)
                separator = "&" if "?" in place else "?"
                whole = content.read(0, content.size)
                _asked(connection, "PUT", f"{place}{separator}digest={digest}", whole, 201)
            url = f"/v2/{repository}/manifests/{tag}"
            _asked(connection, "PUT", url, self.manifest, 201)


def remote(*shards: bytes | Generated) -> Remote:
    """A sharded GGUF model, whose shards need not be any."""
    layers = {
        shard.digest if isinstance(shard, Generated) else digest_of(shard): shard
        for shard in shards
    }
    digested = list(layers)
    config = {
        "config": {"format": "gguf", "quantization": "F16"},
        "descriptor": {"created": "2024-05-06T07:08:09Z"},
        "rootfs": {"type": "rootfs", "diff_ids": digested},
    }
    blob = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": _descriptor(CONFIG_V01, digest_of(blob), len(blob)),
        "layers": [_descriptor(SHARD, d, content_of(layers[d]).size) for d in digested],
    }
    return Remote(json.dumps(manifest).encode(), blob, layers)


def _descriptor(media_type: str, digest: str, size: int) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest, "size": size}


def _asked(connection: HTTPConnection, method: str, url: str, body: bytes, expected: int) -> str:
    connection.request(method, url, body)
    with connection.getresponse() as response:
        response.read()
        assert response.status == expected
        return response.headers.get("Location", "")
