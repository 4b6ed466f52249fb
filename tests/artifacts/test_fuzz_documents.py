"""Manifests, configs and indexes that anybody may have written: read, or refused with a reason."""

from __future__ import annotations

import json
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.artifacts import media
from runner.artifacts.artifact import Manifest, parse_config, parse_manifest, settle
from runner.artifacts.image_index import pick_manifest
from runner.artifacts.layer_paths import check_paths, safe_path
from runner.artifacts.media import ModelFormat
from runner.errors import BadModelFile, RunnerError
from tests.artifacts import golden

DIGEST = f"sha256:{'0' * 64}"
TYPES = (
    media.CONFIG_V01,
    media.CONFIG_V02,
    media.CONFIG_CNCF,
    *sorted(media.IMAGE_CONFIGS),
    "application/vnd.docker.ai.gguf.v3",
    "application/vnd.docker.ai.chat.template.jinja",
    "application/vnd.docker.ai.model.file",
    "application/vnd.cncf.model.weight.v1.raw",
    "application/vnd.cncf.model.weight.config.v1.tar+gzip",
    "application/vnd.cncf.model.doc.v1.tar",
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["../x", "/etc/x", "C:\\x", "a/../b", "", "\0", "\ud800", "x" * 5000]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
KEYS = (
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "annotations",
    "manifests",
    "digest",
    "size",
    "platform",
    "format",
    "gguf",
    "context_size",
    "descriptor",
    "created",
    "createdAt",
    "org.cncf.model.filepath",
    "org.opencontainers.image.title",
)
JSON: st.SearchStrategy[Any] = st.recursive(
    ODD | st.sampled_from([*TYPES, DIGEST, 2, "gguf"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=6)
    ),
    max_leaves=20,
)


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def only_our_errors(manifest: bytes, config: bytes) -> None:
    """Whatever is read keeps what it promises; whatever is not says why, in one line."""
    try:
        parsed = parse_manifest(manifest)
        check(parsed)
        told, created = parse_config(config, parsed)
        assert created >= 0
        settled = settle(parsed, told.format)
        assert [layer.digest for layer in settled.layers] == [x.digest for x in parsed.layers]
        check(settled)
    except RunnerError as error:
        assert error.message
        assert "\n" not in error.message
        assert len(error.message) < 1000


def check(manifest: Manifest) -> None:
    for layer in manifest.layers:
        assert layer.size >= 0
        assert is_inside(layer.path)


def is_inside(path: str) -> bool:
    parts = PurePosixPath(path).parts
    return not path.startswith("/") and ".." not in parts and "\0" not in path


@settings(deadline=None, max_examples=300)
@given(JSON, JSON)
def test_no_document_breaks_the_readers(manifest: object, config: object) -> None:
    only_our_errors(encoded(manifest), encoded(config))
    try:
        assert pick_manifest(encoded(manifest)).startswith("sha256:")
    except RunnerError:
        return


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_no_changed_document_breaks_the_readers(data: st.DataObject) -> None:
    """One real artifact, any one to three of whose values are others."""
    documents = [json.loads(golden.MANIFEST), json.loads(golden.CONFIG)]
    for _ in range(data.draw(st.integers(1, 3))):
        replace_one(data, data.draw(st.sampled_from(documents)))
    only_our_errors(encoded(documents[0]), encoded(documents[1]))


def replace_one(data: st.DataObject, document: Any) -> None:  # noqa: ANN401 - any JSON
    while True:
        keys = list(document) if isinstance(document, dict) else list(range(len(document)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        inner = document[key]
        if not isinstance(inner, dict | list) or data.draw(st.booleans()):
            document[key] = data.draw(JSON | st.sampled_from(TYPES))
            return
        document = inner


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_readers(tail: bytes) -> None:
    only_our_errors(tail, tail)
    only_our_errors(golden.MANIFEST, tail)
    for cut in (len(tail) % len(golden.MANIFEST), len(golden.MANIFEST) - 1):
        only_our_errors(golden.MANIFEST[:cut], golden.CONFIG[:cut])


@pytest.mark.parametrize(
    "bomb",
    [
        b"[" * 1_000_000,
        b'{"a":' * 500_000,
        b'{"schemaVersion":' + b"9" * 100_000 + b"}",
        b'"' + b"\\ud800" * 100_000 + b'"',
        b"\xff\xfe" * 1000,
    ],
    ids=["lists", "objects", "digits", "surrogates", "other encoding"],
)
def test_bombs_of_json(bomb: bytes) -> None:
    for reader in (parse_manifest, pick_manifest):
        with pytest.raises(BadModelFile):
            reader(bomb)
    with pytest.raises(BadModelFile):
        parse_config(bomb, parse_manifest(golden.MANIFEST))


NAMES = st.text(st.sampled_from("ab./\\:~-_ éé\u0301\0\n"), max_size=12)


@settings(deadline=None, max_examples=500)
@given(NAMES | st.text(max_size=30))
def test_no_path_leads_out(path: str) -> None:
    try:
        kept = safe_path(path)
    except BadModelFile:
        return
    root = Path("/store/model")
    assert (root / kept).is_relative_to(root)
    assert is_inside(kept)
    assert safe_path(kept) == kept


@settings(deadline=None)
@given(st.lists(NAMES.filter(bool), max_size=6))
def test_paths_that_pass_can_lie_in_one_folder(paths: list[str]) -> None:
    try:
        check_paths(paths)
    except BadModelFile:
        return
    plain = [unicodedata.normalize("NFC", path) for path in paths]
    assert len(set(plain)) == len(plain)
    for one in plain:
        parents = {str(folder) for folder in PurePosixPath(one).parents}
        assert not parents.intersection(plain)


def nameless(count: int) -> bytes:
    document = json.loads(golden.MANIFEST)
    document["config"]["mediaType"] = media.CONFIG_CNCF
    kind = "application/vnd.cncf.model.weight.v1.raw"
    document["layers"] = [
        {"mediaType": kind, "size": 1, "digest": f"sha256:{n:064x}"} for n in range(count)
    ]
    return encoded(document)


def calls(work: Callable[[], object]) -> int:
    """How many Python functions were called: the same on every machine."""
    count = 0

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal count
        del frame
        count += event == "call"

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_the_work_grows_with_the_number_of_layers_alone() -> None:
    """A megabyte of manifest must not keep the daemon busy for minutes."""

    def work(count: int) -> int:
        content = nameless(count)
        return calls(lambda: settle(parse_manifest(content), ModelFormat.GGUF))

    assert work(800) < 5 * work(200)
