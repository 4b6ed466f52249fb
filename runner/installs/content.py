"""What goes into a variant's image, as one digest: the same content is never built twice."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from runner.engines.description import Variant

LABEL = "io.runner.content"
"""On a built image: the digest of what it was built from."""

NO_CONTEXTS: Mapping[str, str] = {}


def content_key(variant: Variant, contexts: Mapping[str, str] = NO_CONTEXTS) -> str:
    """Of the Dockerfile and every file that its Dockerfile.dockerignore lets through; of a folder
    without one, of all that is in it. Bases and packages are pinned in these files, unless
    `contexts` (the setting `build_contexts`) put others in their place: another base is another
    content. What lies in a folder that they name does not count."""
    digest = hashlib.sha256()
    for name, source in sorted(contexts.items()):
        digest.update(f"{name}={source}\0".encode())
    for file in sorted(set(_inputs(variant))):
        digest.update(file.relative_to(variant.context).as_posix().encode())
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:16]


def _inputs(variant: Variant) -> Iterator[Path]:
    ignored = variant.folder / "Dockerfile.dockerignore"
    if not ignored.is_file():
        yield from (path for path in variant.folder.rglob("*") if path.is_file())
        return
    yield from (variant.folder / "Dockerfile", ignored)
    for line in ignored.read_text(encoding="utf-8").splitlines():
        if line.startswith("!"):
            path = variant.context / line[1:]
            yield from (found for found in path.rglob("*") if found.is_file())
            if path.is_file():
                yield path
