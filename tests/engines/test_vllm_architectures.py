"""Architectures that Xinference's documentation names for vLLM: known, or gone with the reason."""

from __future__ import annotations

import pytest

from runner.engines.catalog import description_of

NAMED = (
    *("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM"),
    *("MllamaForConditionalGeneration", "BaichuanForCausalLM", "InternLM2ForCausalLM"),
    *("QWenLMHeadModel", "MixtralForCausalLM", "ChatGLMForConditionalGeneration"),
    *("GlmForCausalLM", "ChatGLMModel", "GemmaForCausalLM", "OrionForCausalLM"),
    *("Qwen2MoeForCausalLM", "CohereForCausalLM", "DeepseekV2ForCausalLM"),
    *("DeepseekV3ForCausalLM", "Qwen3ForCausalLM", "MiniCPM3ForCausalLM"),
    *("InternLM3ForCausalLM", "Gemma3ForCausalLM", "Glm4ForCausalLM", "MiniCPMForCausalLM"),
    *("Ernie4_5ForCausalLM", "Qwen3MoeForCausalLM", "Glm4MoeForCausalLM", "GptOssForCausalLM"),
    *("SeedOssForCausalLM", "Qwen3NextForCausalLM", "DeepseekV32ForCausalLM"),
    "MiniMaxM2ForCausalLM",
)
REMOVED = {
    "BaichuanForCausalLM": "vLLM had it until 0.23.0",
    "QWenLMHeadModel": "the first Qwen; vLLM had it until 0.23.0",
    "MllamaForConditionalGeneration": "encoders with decoders left with engine V0, after 0.10.2",
}
"""The reasons are those of `_PREVIOUSLY_SUPPORTED_MODELS` in vLLM's registry."""


@pytest.mark.parametrize("architecture", NAMED)
def test_an_architecture_that_is_documented_is_known_or_removed(architecture: str) -> None:
    known = architecture in description_of("vllm").architectures
    assert known is (architecture not in REMOVED)


def test_what_was_removed_was_named() -> None:
    assert set(NAMED) >= set(REMOVED)
    assert len(NAMED) == 31
