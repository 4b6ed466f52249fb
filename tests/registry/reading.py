"""A registry's blob read at once, as tests want to compare it."""

from __future__ import annotations

from runner.registry.client import RegistryClient
from tests.registry.content import PIECE

MOST = 2**40


def whole(client: RegistryClient, repository: str, digest: str) -> bytes:
    content = bytearray()
    with client.blob_source(repository, digest).open(0, MOST) as body:
        while piece := body.read(PIECE):
            content += piece
    return bytes(content)
