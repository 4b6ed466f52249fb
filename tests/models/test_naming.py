"""Names: references, paths and IDs, told apart by their spelling."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import BadReference
from runner.models.naming import LocalPath, ModelId, read_name
from runner.registry.reference import Defaults, Reference, parse

HEX = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("file.gguf", "file.gguf"),
        ("Model.GGUF", "Model.GGUF"),
        ("models/x.gguf", "models/x.gguf"),
        ("models.v2/x.gguf", "models.v2/x.gguf"),
        ("my model.gguf", "my model.gguf"),
        ("./folder/", "folder"),
        ("folder/", "folder"),
        (".", "."),
        ("../x", "../x"),
        ("/abs", "/abs"),
        ("/a:b@c", "/a:b@c"),
        ("file:///abs/with%20space", "/abs/with space"),
        ("file://localhost/abs", "/abs"),
        ("x.safetensors", "x.safetensors"),
    ],
)
def test_paths(text: str, path: str) -> None:
    assert read_name(text) == LocalPath(Path(path))


def test_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_name("~/x") == LocalPath(tmp_path / "x")
    with pytest.raises(BadReference, match="no home folder"):
        read_name("~nobody-of-that-name/x")


@pytest.mark.parametrize("digits", [HEX[:12], HEX[:40], HEX])
def test_ids(digits: str) -> None:
    assert read_name(digits) == read_name(f"sha256:{digits}") == ModelId(digits)


@pytest.mark.parametrize(
    "text",
    [
        *("smollm2", "ai/smollm2", HEX[:11], "hf.co/org/x.gguf", "hf://org/x.gguf"),
        *("localhost:5000/x.gguf", "ai/x.gguf:latest", "https://huggingface.co/org/x/"),
        *(f"ai/x@sha256:{HEX}", "ms://org/x"),
    ],
)
def test_references(text: str) -> None:
    defaults = Defaults(tag="stable")
    assert read_name(text, defaults) == parse(text, defaults)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("./a\0b", "control character"),
        ("file://elsewhere/x", "another machine"),
        ("file://", "another machine"),
        (f"sha256:{HEX[:11]}", "not a model's ID"),
        (f"sha256:{HEX}0", "not a model's ID"),
        ("https://example.org/x.gguf", "URL"),
        ("file://[/x", "another machine"),
        ("file:///a%00", "control character"),
    ],
)
def test_reasons(text: str, reason: str) -> None:
    with pytest.raises(BadReference, match=reason):
        read_name(text)


@given(st.text(alphabet="aA0._-:/@[]~% ", max_size=20), st.sampled_from(["", "file://", "hf://"]))
def test_any_text_is_read_or_refused(text: str, prefix: str) -> None:
    try:
        name = read_name(prefix + text)
    except BadReference:
        return
    assert isinstance(name, Reference | LocalPath | ModelId)
