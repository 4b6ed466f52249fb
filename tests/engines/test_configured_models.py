"""Under which name a model is configured, and how that is shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.demo import gguf_path
from runner.engines.configured_models import Subject, rows, subject
from runner.errors import BadInput, BadReference, ModelNotFound
from runner.registry.reference import parse
from runner.store.store import ModelStore
from tests.models.packaging import package_gguf

NAME = "docker.io/ai/demo:latest"
DIGEST = "sha256:" + "1" * 64
DOCUMENT = (
    '{"options": {"threads": 1}, "parameters": {}, "flags": [], "environment": {"A_KEY": "b"}}'
)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    found = ModelStore(tmp_path / "models")
    package_gguf(found, gguf_path(), parse("ai/demo"))
    return found


def test_a_name_is_kept_long_and_an_id_whole(store: ModelStore) -> None:
    model = store.get("ai/demo")
    assert subject(store, "demo") == Subject(NAME, model)
    assert subject(store, model.short_id) == Subject(model.id, model)
    assert subject(store, f"ai/demo@{model.id}").name == model.id
    assert set(subject(store, "demo").names) == {NAME, model.id}


def test_a_model_may_come_later_but_an_id_names_one_that_is_here(store: ModelStore) -> None:
    assert subject(store, "ai/other") == Subject("docker.io/ai/other:latest", None)
    assert subject(store, f"ai/other@{DIGEST}") == Subject(DIGEST, None)
    for text, kind in {
        DIGEST: ModelNotFound,
        "sha256:12": BadReference,
        "Bad Name": BadReference,
        "./file.gguf": BadInput,
    }.items():
        with pytest.raises(kind):
            subject(store, text)


def test_rows_are_of_the_models_that_are_asked_for() -> None:
    stored = {(NAME, ""): DOCUMENT, (DIGEST, "vllm"): "no JSON"}
    first, second = rows(stored)
    assert first == {
        "model": NAME,
        "backend": "",
        "options": {"threads": 1},
        "parameters": {},
        "flags": [],
        "environment": {"A_KEY": "***"},
    }
    assert second["problem"]
    assert "--reset" in second["hint"]
    assert rows(stored, [NAME]) == [first]
    assert rows(stored, []) == []
