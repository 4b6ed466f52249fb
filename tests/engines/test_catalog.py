"""The catalog read from the engine.yaml files that ship."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runner.artifacts.media import ModelFormat
from runner.engines.base import Mode
from runner.engines.catalog import (
    catalog,
    description_of,
    descriptions,
    images_folder,
    variant_for,
)
from runner.engines.description import Form, Origin
from runner.engines.registered import engines
from runner.errors import BadEngineFile, EngineNotFound, EngineNotInstalled
from runner.names import Accelerator, canonical_engine


def test_every_engine_that_ships_can_be_started() -> None:
    known = engines()
    for about in descriptions():
        assert known.named(about.name).description == about
        assert canonical_engine(about.name) == about.name
        assert about.origin is Origin.BUILT_IN


def test_engines_come_in_the_order_of_their_names() -> None:
    names = [about.name for about in descriptions()]
    assert "llama.cpp" in names
    assert names == sorted(names)
    assert [variant.engine for variant in catalog()] == sorted(
        variant.engine for variant in catalog()
    )


def test_llamacpp_is_as_its_file_says() -> None:
    about = description_of("llama.cpp")
    assert [variant.name for variant in about.variants] == ["cpu", "cuda12", "cuda13"]
    assert about.formats == {ModelFormat.GGUF: ("any",)}
    assert about.modes == {Mode.COMPLETION, Mode.EMBEDDING, Mode.RERANKING}
    assert {"llama", "qwen3", "gemma3", "bert"} <= about.architectures
    assert "clip" not in about.architectures
    cpu = variant_for("llama.cpp", Accelerator.CPU)
    assert (cpu.label, cpu.form, cpu.context) == ("llama.cpp/cpu", Form.IMAGE, images_folder())
    assert cpu.version.startswith("b")


def test_what_drives_a_gpu_says_which_driver_it_needs() -> None:
    on_gpus = [one for one in catalog() if one.accelerator is Accelerator.CUDA]
    assert on_gpus
    assert [one.label for one in on_gpus if not one.requires.driver] == []


def test_of_several_variants_the_one_of_the_highest_priority_is_taken() -> None:
    assert variant_for("llama.cpp", Accelerator.CUDA).name == "cuda13"


def test_what_does_not_ship_is_refused_with_what_does() -> None:
    with pytest.raises(EngineNotInstalled) as caught:
        variant_for("llama.cpp", Accelerator.CANN)
    assert caught.value.hint == "there is: --gpu none, --gpu cuda"
    with pytest.raises(EngineNotInstalled) as caught:
        variant_for("sglang", Accelerator.CUDA)
    assert "llama.cpp" in caught.value.hint


def test_an_unknown_engine_is_refused_with_the_nearest() -> None:
    with pytest.raises(EngineNotFound) as caught:
        description_of("lama.cpp")
    assert caught.value.hint == "did you mean llama.cpp?"


def test_a_broken_file_among_others_is_named(tmp_path: Path) -> None:
    shutil.copytree(images_folder() / "llama.cpp", tmp_path / "llama.cpp")
    assert [about.name for about in descriptions(tmp_path)] == ["llama.cpp"]
    file = tmp_path / "llama.cpp" / "engine.yaml"
    file.write_text(file.read_text().replace("accelerator: cpu", "accelerator: gpu"))
    with pytest.raises(BadEngineFile, match=r"engine\.yaml:18: variants\[0\]\.accelerator"):
        descriptions(tmp_path)
