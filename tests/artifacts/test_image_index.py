"""An index instead of a manifest."""

from __future__ import annotations

import json

import pytest

from runner.artifacts.artifact import parse_manifest
from runner.artifacts.image_index import pick_manifest, platform_manifests
from runner.errors import BadModelFile

MODEL = "application/vnd.cncf.model.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def entry(number: int, platform: str = "", **more: object) -> dict[str, object]:
    found: dict[str, object] = {"mediaType": MANIFEST, "digest": digest(number), "size": 1, **more}
    if platform:
        names = ("os", "architecture", "variant")
        found["platform"] = dict(zip(names, platform.split("/"), strict=False))
    return found


def index(*entries: object) -> bytes:
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}
    return json.dumps(document).encode()


ATTESTATION = entry(9, "unknown/unknown", annotations={"vnd.docker.reference.type": "x"})


def test_its_platforms() -> None:
    content = index(entry(1, "linux/amd64"), entry(2, "linux/arm/v7"), entry(3), ATTESTATION, 7)
    assert platform_manifests(content) == (
        ("linux/amd64", digest(1)),
        ("linux/arm/v7", digest(2)),
        ("any", digest(3)),
    )


@pytest.mark.parametrize(
    "content",
    [
        index(entry(1, "linux/amd64")),
        index(entry(1), entry(1)),
        index(entry(1), ATTESTATION),
        index(entry(2, "linux/amd64"), entry(1, artifactType=MODEL), entry(3)),
    ],
)
def test_the_one_that_is_a_model_is_picked(content: bytes) -> None:
    assert pick_manifest(content) == digest(1)


@pytest.mark.parametrize("read", [pick_manifest, parse_manifest])
def test_else_it_says_what_there_is(read: object) -> None:
    assert callable(read)
    content = index(entry(1, "linux/amd64"), entry(2, "linux/arm64"))
    with pytest.raises(BadModelFile, match="index of several platforms") as caught:
        read(content)
    assert f"linux/amd64 {digest(1)}, linux/arm64 {digest(2)}" in caught.value.hint


def test_a_long_list_is_cut() -> None:
    with pytest.raises(BadModelFile) as caught:
        pick_manifest(index(*(entry(number) for number in range(1, 13))))
    assert caught.value.hint.endswith(" and 4 more")


def test_two_models_decide_nothing() -> None:
    models = (entry(1, artifactType=MODEL), entry(2, artifactType=MODEL))
    with pytest.raises(BadModelFile):
        pick_manifest(index(*models))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (index(), "several platforms"),
        (b'{"manifests":{}}', "no usable list"),
        (b'{"schemaVersion":2}', "no usable list"),
        (b'{"manifests":[' + b"{}," * 1000 + b"{}]}", "no usable list"),
        (b" " * (4 * 1024 * 1024 + 1), "larger than 4 MiB"),
        (b"<html>", "web page"),
    ],
)
def test_bad_ones(content: bytes, reason: str) -> None:
    with pytest.raises(BadModelFile, match=reason):
        pick_manifest(content)


def test_what_it_shows_is_short_and_printable() -> None:
    ((shown, _),) = platform_manifests(index(entry(1, f"{'x' * 500}/\x1b[31m")))
    assert shown == "any"
    ((shown, _),) = platform_manifests(index(entry(1, f"{'x' * 500}/amd64")))
    assert len(shown) == 80
