"""Indexes: manifests of several platforms behind one name, and the one that is a model. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from runner.artifacts import media
from runner.artifacts.documents import Json, inner_object, json_object, text_of
from runner.errors import BadModelFile
from runner.registry.digest import is_digest
from runner.registry.media import DOCKER_INDEX, OCI_INDEX

MAX_INDEX = 4 * 1024 * 1024
MAX_MANIFESTS = 1000
_SHOWN = 8
_INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
_ATTESTATION = "vnd.docker.reference.type"
"""Buildx's annotation of manifests that describe another one; they are no platform's."""


def is_index(document: Mapping[str, Json]) -> bool:
    """Whether a manifest's document is an index."""
    return text_of(document.get("mediaType")) in _INDEXES or "manifests" in document


def platform_manifests(content: bytes) -> tuple[tuple[str, str], ...]:
    """Each platform (`linux/amd64`; `any` where none is said) and its manifest's digest, without
    attestations. Raises BadModelFile where this is no index."""
    return tuple((_platform(entry), entry["digest"]) for entry in _entries(content))


def pick_manifest(content: bytes) -> str:
    """The digest of the one manifest of an index that can be a model: the only one there is, or
    the only one whose type says that it is one. Raises BadModelFile where that decides nothing."""
    entries = _entries(content)
    models = [entry for entry in entries if media.is_model_type(text_of(entry.get("artifactType")))]
    for found in (entries, models):
        digests = {entry["digest"] for entry in found}
        if len(digests) == 1:
            return str(digests.pop())
    raise refused(content)


def refused(content: bytes) -> BadModelFile:
    """Why an index can't be read as a model; the hint lists what it holds."""
    found = platform_manifests(content)
    listed = ", ".join(f"{platform} {digest}" for platform, digest in found[:_SHOWN])
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return BadModelFile(
        "this is an image index of several platforms, not a model",
        hint=f"name one of its manifests by digest (NAME@DIGEST): {listed}{more}"
        if found
        else "it holds no manifest at all",
    )


def _entries(content: bytes) -> tuple[dict[str, Json], ...]:
    document = json_object(content, MAX_INDEX, "index")
    listed = document.get("manifests", [])
    if not is_index(document) or not isinstance(listed, list) or len(listed) > MAX_MANIFESTS:
        raise BadModelFile("the index has no usable list of manifests")
    return tuple(
        entry
        for entry in listed
        if isinstance(entry, dict)
        and is_digest(text_of(entry.get("digest")))
        and _ATTESTATION not in inner_object(entry, "annotations")
    )


def _platform(entry: Mapping[str, Json]) -> str:
    stated = inner_object(entry, "platform")
    parts = (text_of(stated.get(name)) for name in ("os", "architecture", "variant"))
    shown = "/".join(part for part in parts if part)
    return shown[:80] if shown.isprintable() and shown else "any"
