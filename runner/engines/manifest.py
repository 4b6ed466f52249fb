"""What an engine image says of itself: labels, and a manifest with its files' digests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.engines.description import EngineDescription, Variant
from runner.errors import BadInput

MANIFEST = "/engine/manifest.json"
"""In the image; written by images/common/manifest.sh, for the files of the folder it is in."""

LABEL_ENGINE = "io.runner.engine"
LABEL_VARIANT = "io.runner.variant"
LABEL_ACCELERATOR = "io.runner.accelerator"
LABEL_FORMATS = "io.runner.formats"
LABEL_MODES = "io.runner.modes"
LABEL_VERSION = "org.opencontainers.image.version"
LABEL_REVISION = "org.opencontainers.image.revision"
LABEL_BASE = "org.opencontainers.image.base.name"
LABEL_LICENCES = "org.opencontainers.image.licenses"
LABEL_SOURCE = "org.opencontainers.image.source"

SCHEMA = 1
MAX_BYTES = 16 << 20

_DIGEST = re.compile(r"[0-9a-f]{64}")
_LISTS = frozenset({LABEL_FORMATS, LABEL_MODES})


@dataclass(frozen=True, slots=True)
class ListedFile:
    """A regular file: path below the manifest's folder, size in bytes, sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    engine: str
    variant: str
    version: str
    accelerator: str
    platform: str
    formats: frozenset[str]
    modes: frozenset[str]
    files: tuple[ListedFile, ...]


def read_manifest(content: bytes) -> Manifest:
    """Raises BadInput for what is not a manifest of this schema."""
    if len(content) > MAX_BYTES:
        raise BadInput(f"the image's manifest has {len(content)} bytes")
    try:
        read = json.loads(content)
        schema = read["schema"]
        manifest = _manifest(read) if schema == SCHEMA else None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"the image's manifest is not readable: {type(error).__name__}") from error
    if manifest is None:
        raise BadInput(
            f"the image's manifest has the schema {schema!r:.40}, this version reads {SCHEMA}"
        )
    return manifest


def labels_of(about: EngineDescription, variant: Variant) -> Mapping[str, str]:
    """What an image of this variant must say in its labels. Empty ones may be anything."""
    return {
        LABEL_ENGINE: about.name,
        LABEL_VARIANT: variant.name,
        LABEL_ACCELERATOR: variant.accelerator.value,
        LABEL_VERSION: variant.version,
        LABEL_REVISION: variant.revision,
        LABEL_BASE: variant.base,
        LABEL_LICENCES: about.licence,
        LABEL_SOURCE: about.source,
        LABEL_FORMATS: ",".join(sorted(about.formats)),
        LABEL_MODES: ",".join(sorted(about.modes)),
    }


def disagreements(
    about: EngineDescription, variant: Variant, labels: Mapping[str, str], manifest: bytes | None
) -> tuple[str, ...]:
    """Where an image says of itself something else than the catalog says of the variant, one
    sentence each; `manifest` is the file's content, None where the image has none."""
    return (*label_disagreements(about, variant, labels), *_of_manifest(about, variant, manifest))


def label_disagreements(
    about: EngineDescription, variant: Variant, labels: Mapping[str, str]
) -> tuple[str, ...]:
    """The part of `disagreements` that needs nothing but labels."""
    if LABEL_ENGINE not in labels:
        return (f"it has no label {LABEL_ENGINE}: it is no engine image of the runner",)
    return tuple(
        f"its label {name} is {labels.get(name, '')!r}, not {wanted!r}"
        for name, wanted in labels_of(about, variant).items()
        if wanted and not _same(name, labels.get(name, ""), wanted)
    )


def _same(name: str, found: str, wanted: str) -> bool:
    if name in _LISTS:
        return set(found.split(",")) == set(wanted.split(","))
    return found == wanted


def _of_manifest(
    about: EngineDescription, variant: Variant, content: bytes | None
) -> Iterator[str]:
    if content is None:
        yield f"it has no {MANIFEST}"
        return
    try:
        manifest = read_manifest(content)
    except BadInput as error:
        yield error.message
        return
    wanted: Mapping[str, tuple[object, object]] = {
        "engine": (manifest.engine, about.name),
        "variant": (manifest.variant, variant.name),
        "version": (manifest.version, variant.version),
        "accelerator": (manifest.accelerator, variant.accelerator.value),
        "formats": (sorted(manifest.formats), sorted(one.value for one in about.formats)),
        "modes": (sorted(manifest.modes), sorted(one.value for one in about.modes)),
    }
    for name, (found, expected) in wanted.items():
        if found != expected:
            yield f"its manifest says {name} {found!r:.200}, not {expected!r}"
    if manifest.platform not in variant.platforms:
        known = ", ".join(variant.platforms)
        yield f"its manifest says platform {manifest.platform!r:.60}, not one of {known}"


def _manifest(read: Mapping[str, Any]) -> Manifest:
    return Manifest(
        engine=_text(read["engine"]),
        variant=_text(read["variant"]),
        version=_text(read["version"]),
        accelerator=_text(read["accelerator"]),
        platform=_text(read["platform"]),
        formats=frozenset(_text(one) for one in _list(read["formats"])),
        modes=frozenset(_text(one) for one in _list(read["modes"])),
        files=tuple(_file(one) for one in _list(read["files"])),
    )


def _file(read: Mapping[str, Any]) -> ListedFile:
    path, size, sha256 = _text(read["path"]), read["size"], _text(read["sha256"])
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise ValueError("a size")
    if not _DIGEST.fullmatch(sha256) or path.startswith("/") or ".." in path.split("/"):
        raise ValueError("a digest or a path")
    return ListedFile(path, size, sha256)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("a text")
    return value


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("a list")
    return value
