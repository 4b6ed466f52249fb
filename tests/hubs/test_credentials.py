"""Tokens from where the hubs' own tools keep them."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.hubs.credentials import token_for
from runner.registry.reference import Source


@pytest.mark.parametrize(
    ("variables", "file", "token"),
    [
        ({"HF_TOKEN": "a"}, "", "a"),
        ({"HF_TOKEN": " a\n"}, "", "a"),
        ({"HUGGING_FACE_HUB_TOKEN": "b"}, "", "b"),
        ({"HF_TOKEN": "a", "HUGGING_FACE_HUB_TOKEN": "b", "HF_HOME": "{}"}, "token", "a"),
        ({"HF_HOME": "{}"}, "token", "kept"),
        ({"HF_HOME": "/nowhere", "HF_TOKEN_PATH": "{}/elsewhere"}, "elsewhere", "kept"),
        ({"XDG_CACHE_HOME": "{}"}, "huggingface/token", "kept"),
        ({"HOME": "{}"}, ".cache/huggingface/token", "kept"),
        ({"HF_HOME": "{}"}, "", ""),
        ({"HF_HOME": "{}/token"}, "token", ""),
        ({"HF_TOKEN": "no\ntoken", "HF_HOME": "{}"}, "", ""),
    ],
)
def test_hugging_face(
    variables: dict[str, str],
    file: str,
    token: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = {name: value.replace("{}", str(tmp_path)) for name, value in variables.items()}
    monkeypatch.setenv("HOME", known.get("HOME", "/nowhere"))
    if file:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("kept\n")
    assert token_for(Source.HUGGING_FACE, known) == token


def test_modelscope() -> None:
    known = {"MODELSCOPE_API_TOKEN": "ms", "HF_TOKEN": "hf"}
    assert token_for(Source.MODELSCOPE, known) == "ms"
    assert token_for(Source.MODELSCOPE, {"HF_TOKEN": "hf"}) == ""
