"""Listings: short names for people, every spelling for programs."""

from __future__ import annotations

from runner.artifacts.artifact import ModelConfig
from runner.artifacts.media import ModelFormat
from runner.models.listing import model_json, short_tags
from runner.registry.reference import STANDARD, Defaults
from runner.store.stored import StoredModel

TAGS = ("docker.io/ai/x:latest", "huggingface.co/org/y:Q4_K_M", "localhost:5000/z:1")
MODEL = StoredModel("sha256:" + "0" * 64, TAGS, (), 7, 9, ModelConfig(ModelFormat.GGUF))


def test_people_see_the_short_names() -> None:
    assert short_tags(MODEL, STANDARD) == ("ai/x", "hf.co/org/y:Q4_K_M", "localhost:5000/z:1")
    assert short_tags(MODEL, Defaults(tag="stable"))[0] == "ai/x:latest"


def test_programs_find_any_spelling() -> None:
    """Compose compares the name in its file with each of them."""
    shown = model_json(MODEL, STANDARD)
    assert shown["tags"] == [
        *("docker.io/ai/x:latest", "ai/x", "ai/x:latest"),
        *("huggingface.co/org/y:Q4_K_M", "hf.co/org/y:Q4_K_M"),
        "localhost:5000/z:1",
    ]
    assert (shown["id"], shown["created"]) == (MODEL.id, 7)
