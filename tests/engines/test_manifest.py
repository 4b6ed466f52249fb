"""What an image says of itself against what the catalog says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.engines.catalog import description_of
from runner.engines.description import EngineDescription, Variant
from runner.engines.manifest import (
    LABEL_ENGINE,
    LABEL_FORMATS,
    LABEL_MODES,
    LABEL_REVISION,
    LABEL_VERSION,
    ListedFile,
    disagreements,
    labels_of,
    read_manifest,
)
from runner.errors import BadInput

DIGEST = "0" * 64
FILE = {"path": "bin/llama-server", "size": 12, "sha256": DIGEST}


def cpu() -> tuple[EngineDescription, Variant]:
    about = description_of("llama.cpp")
    return about, about.variants[0]


def manifest(**changes: object) -> bytes:
    about, variant = cpu()
    document: dict[str, Any] = {
        "schema": 1,
        "engine": about.name,
        "variant": variant.name,
        "version": variant.version,
        "accelerator": "cpu",
        "platform": "linux/amd64",
        "formats": ["gguf"],
        "modes": ["completion", "embedding", "reranking"],
        "files": [FILE],
    }
    return json.dumps(document | changes).encode()


def labels(**changes: str) -> dict[str, str]:
    return {**labels_of(*cpu()), **changes}


def test_a_manifest_is_read() -> None:
    read = read_manifest(manifest())
    assert (read.engine, read.variant, read.platform) == ("llama.cpp", "cpu", "linux/amd64")
    assert read.formats == {"gguf"}
    assert read.files == (ListedFile("bin/llama-server", 12, DIGEST),)


def test_an_image_that_agrees_has_nothing_against_it() -> None:
    assert disagreements(*cpu(), labels(), manifest()) == ()


def test_the_order_of_formats_and_modes_is_no_difference() -> None:
    turned = labels(**{LABEL_MODES: "reranking,completion,embedding"})
    turned_manifest = manifest(modes=["reranking", "embedding", "completion"])
    assert disagreements(*cpu(), turned, turned_manifest) == ()


def test_an_image_without_the_runners_labels_is_none_of_ours() -> None:
    (said,) = disagreements(*cpu(), {"maintainer": "somebody"}, manifest())
    assert said == f"it has no label {LABEL_ENGINE}: it is no engine image of the runner"


def test_an_image_without_a_manifest_is_none_of_ours() -> None:
    assert disagreements(*cpu(), labels(), None) == ("it has no /engine/manifest.json",)


@pytest.mark.parametrize(
    ("label", "value"),
    [
        (LABEL_ENGINE, "vllm"),
        (LABEL_VERSION, "b1"),
        (LABEL_REVISION, "0123"),
        (LABEL_FORMATS, "gguf,safetensors"),
        (LABEL_MODES, ""),
    ],
)
def test_a_label_that_says_something_else_is_named(label: str, value: str) -> None:
    (said,) = disagreements(*cpu(), labels(**{label: value}), manifest())
    assert said == f"its label {label} is {value!r}, not {labels()[label]!r}"


def test_a_label_that_is_missing_is_named() -> None:
    without = {name: text for name, text in labels().items() if name != LABEL_VERSION}
    (said,) = disagreements(*cpu(), without, manifest())
    assert said == f"its label {LABEL_VERSION} is '', not {labels()[LABEL_VERSION]!r}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine": "vllm"}, "its manifest says engine 'vllm', not 'llama.cpp'"),
        ({"variant": "cuda"}, "its manifest says variant 'cuda', not 'cpu'"),
        ({"version": "b1"}, "its manifest says version 'b1', not 'b11312'"),
        ({"accelerator": "cuda"}, "its manifest says accelerator 'cuda', not 'cpu'"),
        ({"formats": []}, "its manifest says formats [], not ['gguf']"),
        (
            {"platform": "linux/s390x"},
            "its manifest says platform 'linux/s390x', not one of linux/amd64",
        ),
        ({"schema": 2}, "the image's manifest has the schema 2, this version reads 1"),
        ({"files": 3}, "the image's manifest is not readable: TypeError"),
        ({"modes": "completion"}, "the image's manifest is not readable: TypeError"),
        ({"files": [FILE | {"size": -1}]}, "the image's manifest is not readable: ValueError"),
        ({"files": [FILE | {"path": "../x"}]}, "the image's manifest is not readable: ValueError"),
        ({"files": [FILE | {"sha256": "x"}]}, "the image's manifest is not readable: ValueError"),
    ],
)
def test_a_manifest_that_says_something_else_is_named(changes: dict[str, Any], said: str) -> None:
    assert disagreements(*cpu(), labels(), manifest(**changes)) == (said,)


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_disagreement_and_never_a_crash(content: bytes) -> None:
    assert len(disagreements(*cpu(), labels(), content)) == 1
    with pytest.raises(BadInput):
        read_manifest(content)


@given(
    document=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3),
    ),
    key=st.sampled_from(sorted(json.loads(manifest()))),
)
def test_any_value_in_a_manifest_is_a_disagreement_or_nothing(key: str, document: object) -> None:
    found = disagreements(*cpu(), labels(), manifest(**{key: document}))
    assert found or document == json.loads(manifest())[key] or key == "files"
