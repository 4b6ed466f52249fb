"""What names of GGUF files say of their quantization."""

from __future__ import annotations

import pytest

from runner.hubs.quantization import is_quantization, quantization_of


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
        ("llama-2-7b.q4_k_m.gguf", "Q4_K_M"),
        ("model_q8_0.gguf", "Q8_0"),
        ("Qwen2.5-7B-IQ4_XS.gguf", "IQ4_XS"),
        ("gemma-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("gemma-UD-IQ2_XXS.gguf", "UD-IQ2_XXS"),
        ("gpt-oss-20b-MXFP4.gguf", "MXFP4"),
        ("gpt-oss-mxfp4_moe.gguf", "MXFP4_MOE"),
        ("x-BF16.gguf", "BF16"),
        ("x.fp16.gguf", "F16"),
        ("x-F32.gguf", "F32"),
        ("x-Q4_0_4_8.gguf", "Q4_0_4_8"),
        ("x-TQ1_0.gguf", "TQ1_0"),
        ("x-Q6_K_L.gguf", "Q6_K_L"),
        ("x-f16-Q5_K_S.gguf", "Q5_K_S"),
        ("Q8_0/model-00001-of-00002.gguf", "Q8_0"),
        ("x-Q3_K_L-00002-of-00003.gguf", "Q3_K_L"),
        ("quants/UD-Q2_K_XL/big-00001-of-00002.gguf", "UD-Q2_K_XL"),
        ("Q8_0/model-Q4_0.gguf", "Q4_0"),
        ("Qwen2-7B.gguf", ""),
        ("xQ4_0y.gguf", ""),
        ("model.gguf", ""),
        (".gguf", ""),
    ],
)
def test_quantizations_are_found_in_names(path: str, name: str) -> None:
    assert quantization_of(path) == name


@pytest.mark.parametrize(
    ("text", "known"),
    [("q4_k_m", True), ("UD-Q4_K_XL", True), ("bf16", True), ("Q4", False), ("main", False)],
)
def test_quantizations_are_known_by_name(text: str, known: bool) -> None:
    assert is_quantization(text) is known
