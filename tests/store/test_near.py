"""Names that somebody may have meant."""

from __future__ import annotations

import pytest

from runner.registry.reference import parse
from runner.store.near import near_names

HERE = [parse(name) for name in ("localhost:25000/myorg/mymodel:F16", "ai/smollm2", "ai/qwen3")]


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        ("mymodel", ["localhost:25000/myorg/mymodel:F16"]),
        ("localhost:25000/myorg/mymodel:Q4", ["localhost:25000/myorg/mymodel:F16"]),
        ("ai/smolm2", ["ai/smollm2"]),
        ("localhost:25000/myorg/zebra:F16", []),
        ("ai/small", []),
        ("x", []),
    ],
)
def test_the_models_own_name_decides(wanted: str, near: list[str]) -> None:
    assert near_names(parse(wanted), HERE) == near


def test_two_at_most_the_nearest_first() -> None:
    here = [parse(f"registry.example/team/demo:{tag}") for tag in ("1", "2", "3")]
    found = near_names(parse("registry.example/team/demo:33"), here)
    assert found == ["registry.example/team/demo:3", "registry.example/team/demo:1"]
