"""What an engine reads, and who of several does."""

from __future__ import annotations

import pytest

from runner.artifacts.media import ModelFormat
from runner.engines.abilities import able, knows, reads
from runner.engines.candidate import Candidate
from runner.engines.catalog import description_of
from runner.engines.vllm import Vllm
from runner.models.traits import ModelTraits
from tests.engines.stage import ENGINES, QWEN


@pytest.mark.parametrize(
    ("quantization", "known", "is_known"),
    [
        ("awq-int4", ("none", "awq-int4"), True),
        ("gptq-int3", ("gptq-int4", "gptq-int8"), False),
        ("gptq-int3", ("gptq",), True),
        ("gptq", ("gptq-int4",), False),
        ("none", ("awq",), False),
        ("Q4_K_M", ("any",), True),
        ("compressed-tensors-int4", ("compressed-tensors",), True),
        ("compressed-tensors", ("compressed-tensors",), True),
        ("compressed-tensors", ("compressed-tensors-int4",), False),
        ("compressed-tensors-int3", ("compressed-tensors-int4",), False),
        ("auto-round-int4", ("auto-round",), True),
        ("autogptq-int4", ("auto",), False),
        ("gptq-int4", ("gptq-int",), False),
    ],
)
def test_a_quantization_is_known_whole_or_by_its_method(
    quantization: str, known: tuple[str, ...], is_known: bool
) -> None:
    assert knows(quantization, known) is is_known


VLLM = Vllm(description_of("vllm"))
SOME = "compressed-tensors"
"""Of a model whose layers have several widths."""


@pytest.mark.parametrize(
    ("variant", "quantization", "is_read"),
    [
        ("cuda", SOME, True),
        *(("cuda", f"{SOME}-int{bits}", True) for bits in range(2, 9)),
        ("cuda", f"{SOME}-fp4", True),
        *(("cuda", f"auto-round-int{bits}", True) for bits in range(2, 9)),
        ("cuda", "auto-round-int1", False),
        ("cuda", "auto-round", False),
        ("rocm", SOME, False),
        *(("rocm", f"{SOME}-int{bits}", bits in (4, 8)) for bits in range(2, 9)),
        ("rocm", f"{SOME}-fp8", True),
        *(("rocm", f"auto-round-int{bits}", bits in (4, 8)) for bits in range(2, 9)),
        ("cpu", SOME, False),
        *(("cpu", f"{SOME}-int{bits}", bits in (4, 8)) for bits in range(2, 9)),
        ("cpu", f"{SOME}-fp8", True),
        ("cpu", f"{SOME}-fp4", False),
        ("cpu", "auto-round-int4", False),
        ("cpu", "gptq-int4", True),
        ("cpu", "gptq-int8", False),
    ],
)
def test_widths_that_vllm_reads(variant: str, quantization: str, is_read: bool) -> None:
    made = VLLM.description.variant(variant)
    assert made is not None
    model = ModelTraits(ModelFormat.SAFETENSORS, quantization, "LlamaForCausalLM", "llama")
    assert reads(Candidate(VLLM, made), model) is is_read


def test_who_is_able_is_named_once_and_of_the_same_engine_by_variant() -> None:
    everyone = [
        Candidate(one, made) for one in ENGINES.values() for made in one.description.variants
    ]
    by_label = {one.label: one for one in everyone}

    def told(label: str) -> str:
        return able(by_label[label], everyone, lambda one: reads(one, QWEN))

    assert told("llama.cpp/cpu") == "mlx-lm or transformers or vllm"
    assert told("vllm/cpu") == "mlx-lm or transformers or vllm/cuda"
    assert able(by_label["vllm/cpu"], everyone, lambda one: False) == ""
