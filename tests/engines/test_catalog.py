"""The catalog read from the shipped Dockerfiles."""

from __future__ import annotations

import pytest

from runner.artifacts.media import ModelFormat
from runner.engines.catalog import catalog, variant_for
from runner.engines.registered import ENGINES
from runner.errors import EngineNotInstalled
from runner.names import Accelerator


def test_every_variant_that_ships_is_an_engine_of_ours() -> None:
    found = catalog()
    assert [variant.label for variant in found] == ["llama.cpp/cpu"]
    for variant in found:
        assert variant.formats <= ENGINES[variant.engine].formats


def test_a_version_is_read_from_the_labels() -> None:
    (variant,) = catalog()
    assert variant.version.startswith("b")
    assert "$" not in variant.version
    assert variant.formats == {ModelFormat.GGUF}
    assert variant.accelerator is Accelerator.CPU


def test_what_does_not_ship_is_refused_with_what_does() -> None:
    with pytest.raises(EngineNotInstalled) as caught:
        variant_for("llama.cpp", Accelerator.CUDA)
    assert "--gpu none" in caught.value.hint
    with pytest.raises(EngineNotInstalled) as caught:
        variant_for("vllm", Accelerator.CUDA)
    assert "llama.cpp" in caught.value.hint
