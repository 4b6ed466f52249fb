"""Reading manifests and configs, good ones and bad ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.errors import BadModelFile, RunnerError, Unsupported
from runner.models.artifact import (
    Manifest,
    parse_config,
    parse_manifest,
    safe_path,
    timestamp,
)
from runner.models.media import LayerKind, ModelFormat
from tests.models import golden

Document = dict[str, Any]
DIGEST = "sha256:" + "ab" * 32


def changed(change: Callable[[Document], object]) -> bytes:
    document: Document = json.loads(golden.MANIFEST)
    change(document)
    return json.dumps(document).encode()


def test_reads_the_golden_artifact() -> None:
    manifest = parse_manifest(golden.MANIFEST)
    assert [(layer.kind, layer.path, layer.size) for layer in manifest.layers] == [
        (LayerKind.GGUF, "golden.gguf", 368),
        (LayerKind.CHAT_TEMPLATE, "chat.jinja", 15),
        (LayerKind.LICENSE, "LICENSE", 11),
    ]
    assert manifest.size == 394
    config, created = parse_config(golden.CONFIG, manifest)
    assert created == golden.CREATED
    assert config.format is ModelFormat.GGUF
    assert (config.quantization, config.parameters, config.size) == ("F16", "8", "16B")
    assert config.context_size == 128
    assert config.gguf["tokenizer.chat_template"] == '<u>&{{ m }}\n"ä"'
    assert config.to_json() == json.loads(golden.CONFIG)["config"]


def test_reads_shards_projectors_and_what_it_does_not_know() -> None:
    def change(document: Document) -> None:
        weights = document["layers"][0]
        second = {**weights, "digest": DIGEST, "annotations": {}}
        other = {"mediaType": "application/x-thing", "digest": DIGEST, "size": 368}
        projector = {"mediaType": "application/vnd.docker.ai.mmproj", "digest": DIGEST, "size": 368}
        document["layers"] += [second, projector, other]

    manifest = parse_manifest(changed(change))
    assert len(manifest.of(LayerKind.GGUF)) == 2
    assert len(manifest.of(LayerKind.MMPROJ)) == 1
    assert manifest.layers[-1].kind is LayerKind.OTHER
    assert len(manifest.blobs) == 5  # the config, three golden layers, one digest thrice


def test_titles_are_paths_where_nothing_else_is() -> None:
    title = {"org.opencontainers.image.title": "./m.gguf"}
    content = changed(lambda d: d["layers"][0].update(annotations=title))
    assert parse_manifest(content).layers[0].path == "m.gguf"


def image_config(document: Document) -> None:
    document["config"]["mediaType"] = "application/vnd.oci.image.config.v1+json"


def annotated(path: object) -> Callable[[Document], object]:
    return lambda d: d["layers"][0]["annotations"].update({"org.cncf.model.filepath": path})


def other_size(document: Document) -> None:
    document["layers"].append({**document["layers"][0], "size": 5, "annotations": {}})


BAD = {
    "web page": (b" <html>", "web page"),
    "no JSON": (b"{", "not JSON"),
    "no text": (b"\xff\xfe", "not JSON"),
    "deep": (b"[" * 100_000, "not JSON"),
    "no object": (b"[]", "no JSON object"),
    "large": (b" " * (4 * 1024 * 1024 + 1), "larger than 4 MiB"),
    "index": (b'{"schemaVersion":2,"manifests":[]}', "image index"),
    "index by type": (
        b'{"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json"}',
        "image index",
    ),
    "version": (changed(lambda d: d.update(schemaVersion=1)), "schemaVersion"),
    "image": (changed(image_config), "container image, not a model"),
    "other artifact": (
        changed(lambda d: d["config"].update(mediaType="application/x")),
        "artifact of type 'application/x'",
    ),
    "no config": (changed(lambda d: d.pop("config")), "config is no descriptor"),
    "layers": (changed(lambda d: d.update(layers={})), "list of layers"),
    "no layers": (changed(lambda d: d.update(layers=[])), "no model weights"),
    "layer": (changed(lambda d: d["layers"].append(1)), "layer 4 is no descriptor"),
    "media type": (changed(lambda d: d["layers"][0].pop("mediaType")), "no media type"),
    "digest": (changed(lambda d: d["layers"][0].update(digest="md5:1")), "no sha256 digest"),
    "upper digest": (
        changed(lambda d: d["layers"][0].update(digest=DIGEST.upper())),
        "no sha256 digest",
    ),
    "negative": (changed(lambda d: d["layers"][0].update(size=-1)), "no usable size"),
    "huge": (changed(lambda d: d["layers"][0].update(size=2**60)), "no usable size"),
    "text size": (changed(lambda d: d["layers"][0].update(size="3")), "no usable size"),
    "true": (changed(lambda d: d["layers"][0].update(size=True)), "no usable size"),
    "two sizes": (changed(other_size), "two sizes"),
    "annotations": (changed(lambda d: d["layers"][0].update(annotations=[1])), "annotations"),
    "path": (changed(annotated("../../etc/x")), "leads out of the model"),
    "absolute": (changed(annotated("/etc/x")), "leads out of the model"),
    "drive": (changed(annotated("C:x")), "leads out of the model"),
    "backslash": (changed(annotated("a\\..\\x")), "leads out of the model"),
    "control": (changed(annotated("a\nb")), "leads out of the model"),
    "number": (changed(annotated(7)), "no text"),
    "same path": (changed(annotated("chat.jinja")), "share the path"),
    "two templates": (
        changed(lambda d: d["layers"].append({**d["layers"][1], "annotations": {}})),
        "2 templates",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_model_is_refused_with_a_reason(name: str) -> None:
    content, reason = BAD[name]
    with pytest.raises(BadModelFile, match=reason):
        parse_manifest(content)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/vnd.docker.ai.model.config.v0.2+json",
        "application/vnd.cncf.model.config.v1+json",
    ],
)
def test_formats_of_later_are_named(media_type: str) -> None:
    content = changed(lambda d: d["config"].update(mediaType=media_type))
    with pytest.raises(Unsupported, match="can't be read yet"):
        parse_manifest(content)


def manifest() -> Manifest:
    return parse_manifest(golden.MANIFEST)


@pytest.mark.parametrize("content", [b"<html>", b"[]", b'{"config":[]}', b"{}", b"\0"])
def test_bad_configs(content: bytes) -> None:
    with pytest.raises(BadModelFile):
        parse_config(content, manifest())


def test_a_config_that_says_little() -> None:
    config, created = parse_config(b'{"config":{"context_size":-1,"gguf":{"a":1}}}', manifest())
    assert created == 0
    assert config.format is ModelFormat.GGUF
    assert config.context_size is None
    assert config.to_json() == {"format": "gguf", "gguf": {"a": ""}}


def test_a_config_of_a_later_format() -> None:
    with pytest.raises(Unsupported, match="dduf"):
        parse_config(b'{"config":{"format":"dduf"}}', manifest())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2024-05-06T07:08:09Z", golden.CREATED),
        ("2024-05-06T09:08:09.123456789+02:00", golden.CREATED),
        ("yesterday", 0),
        (None, 0),
        ("9999-99-99T00:00:00Z", 0),
    ],
)
def test_timestamps(text: object, seconds: int) -> None:
    assert timestamp(text) == seconds


@given(st.text(alphabet="ab./\\:~-\0", max_size=12))
def test_safe_paths_stay_inside(path: str) -> None:
    try:
        safe = safe_path(path)
    except BadModelFile:
        return
    assert not safe.startswith("/")
    assert ".." not in safe.split("/")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(JSON, st.sampled_from(["schemaVersion", "config", "layers", "mediaType", "annotations"]))
def test_no_json_breaks_the_reader(value: object, place: str) -> None:
    for content in (
        json.dumps(value).encode(),
        changed(lambda d: d.update({place: value})),
        changed(lambda d: d["layers"][0].update({place: value})),
    ):
        try:
            parse_manifest(content)
            parse_config(content, manifest())
        except RunnerError:
            continue
