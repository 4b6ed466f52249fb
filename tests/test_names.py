"""Engine names, aliases, reserved words, and what `--gpu` may say."""

from __future__ import annotations

import pytest

from runner.engines.catalog import descriptions
from runner.errors import BadInput, EngineNotFound
from runner.names import (
    ALIASES,
    RESERVED,
    Accelerator,
    Target,
    accelerator,
    canonical_engine,
    near_hint,
    target,
)


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("llamacpp", "llama.cpp"),
        ("llama-cpp", "llama.cpp"),
        ("llama-box", "llama.cpp"),
        ("mlx", "mlx-lm"),
        ("tensorrt", "tensorrt-llm"),
        ("LLaMA.cpp", "llama.cpp"),
        (" vllm ", "vllm"),
    ],
)
def test_aliases_are_accepted(alias: str, name: str) -> None:
    assert canonical_engine(alias) == name


@pytest.mark.parametrize("word", ["install", "status", "v1", "ps", "logs"])
def test_words_of_the_api_are_no_engines(word: str) -> None:
    assert word in RESERVED
    with pytest.raises(EngineNotFound):
        canonical_engine(word)


def test_no_engine_or_alias_is_a_reserved_word() -> None:
    assert not RESERVED & {*(about.name for about in descriptions()), *ALIASES}


@pytest.mark.parametrize("word", ["", "a b", "../x", "a/b", "ä", "x" * 64, "-a"])
def test_what_can_not_stand_in_a_path_is_no_engine(word: str) -> None:
    with pytest.raises(EngineNotFound):
        canonical_engine(word)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("vllm", Target("vllm")),
        ("MLX", Target("mlx-lm")),
        ("vllm:cuda", Target("vllm", "cuda")),
        ("any:rocm", Target("", "rocm")),
        ("any", Target()),
    ],
)
def test_targets(text: str, found: Target) -> None:
    assert target(text) == found
    assert target(str(found) or "any") == found


@pytest.mark.parametrize("text", ["vllm:", ":cuda", "vllm:a/b", "status:cuda", "vllm:cuda:2"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(EngineNotFound):
        target(text)


def test_the_nearest_name_or_all() -> None:
    assert near_hint("lama.cpp", ["llama.cpp", "vllm"], "engines") == "did you mean llama.cpp?"
    assert near_hint("x", ["llama.cpp", "vllm"], "engines") == "engines: llama.cpp, vllm"


@pytest.mark.parametrize(
    ("word", "meaning"),
    [
        ("none", Accelerator.CPU),
        ("auto", None),
        ("cuda", Accelerator.CUDA),
        ("hip", Accelerator.ROCM),
        ("xpu", Accelerator.SYCL),
        ("Metal", Accelerator.METAL),
    ],
)
def test_gpu_words(word: str, meaning: Accelerator | None) -> None:
    assert accelerator(word) is meaning


def test_a_wrong_gpu_names_the_nearest() -> None:
    with pytest.raises(BadInput) as caught:
        accelerator("cude")
    assert caught.value.hint == "did you mean cuda?"
