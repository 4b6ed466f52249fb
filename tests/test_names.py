"""Engine names, aliases, reserved words, and what `--gpu` may say."""

from __future__ import annotations

import pytest

from runner.errors import BadInput, EngineNotFound
from runner.names import ALIASES, KNOWN, RESERVED, Accelerator, accelerator, canonical_engine


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
    assert not RESERVED & {*KNOWN, *ALIASES}


def test_an_unknown_engine_names_the_nearest() -> None:
    with pytest.raises(EngineNotFound) as caught:
        canonical_engine("lama.cpp")
    assert caught.value.hint == "did you mean llama.cpp?"


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
