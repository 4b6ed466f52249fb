"""Which of vLLM's parsers reads a model's tool calls and its thinking, by architecture.

Only where all models of an architecture go with one: some parsers refuse a tokenizer that lacks
their words, and end the start. So Llama, Mistral, Mixtral, Jamba and DeepSeek V3, whose names many
other models bear, get none until a user's option names it.
"""

from __future__ import annotations

from collections.abc import Mapping

OFF = "none"
"""What an option says to have no parser at all."""


def _by_architecture(*rows: tuple[str, tuple[str, ...]]) -> Mapping[str, str]:
    return {architecture: parser for parser, names in rows for architecture in names}


_QWEN3 = ("Qwen3ForCausalLM", "Qwen3MoeForCausalLM")
_QWEN3_5 = (
    *("Qwen3_5ForCausalLM", "Qwen3_5ForConditionalGeneration"),
    *("Qwen3_5MoeForCausalLM", "Qwen3_5MoeForConditionalGeneration"),
)
_QWEN_VISION = (
    *("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"),
    *("Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration"),
)
_MISTRAL = (
    *("Mistral3ForConditionalGeneration", "MistralLarge3ForCausalLM"),
    "Ministral3ForCausalLM",
)
_GEMMA4 = (
    *("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration"),
    "Gemma4UnifiedForConditionalGeneration",
)
_KIMI_K2 = ("KimiK25ForConditionalGeneration",)
_MINIMAX_M3 = ("MiniMaxM3SparseForCausalLM", "MiniMaxM3SparseForConditionalGeneration")
_COHERE = ("CohereForCausalLM", "Cohere2ForCausalLM", "Cohere2VisionForConditionalGeneration")
_MIMO = ("MiMoV2FlashForCausalLM", "MiMoV2ForCausalLM")
_INKLING = ("InklingForCausalLM", "InklingForConditionalGeneration")
_MUSE = ("MuseGlimmerForCausalLM", "MuseGlimmerForConditionalGeneration")
_GLM = ("Glm4MoeForCausalLM", "Glm4vMoeForConditionalGeneration")

TOOL_PARSERS = _by_architecture(
    ("hermes", ("Qwen2ForCausalLM", "Qwen2MoeForCausalLM", *_QWEN3, *_QWEN_VISION)),
    ("qwen3_coder", ("Qwen3NextForCausalLM", *_QWEN3_5)),
    ("llama4_pythonic", ("Llama4ForCausalLM", "Llama4ForConditionalGeneration")),
    ("mistral", _MISTRAL),
    ("gemma4", _GEMMA4),
    ("openai", ("GptOssForCausalLM",)),
    ("deepseek_v32", ("DeepseekV32ForCausalLM",)),
    ("deepseek_v4", ("DeepseekV4ForCausalLM",)),
    ("deepseek_v41", ("DeepseekV41ForCausalLM",)),
    ("glm45", _GLM),
    ("glm47", ("Glm4MoeLiteForCausalLM", "GlmMoeDsaForCausalLM")),
    ("kimi_k2", _KIMI_K2),
    ("kimi_k3", ("KimiK3ForConditionalGeneration",)),
    ("k2_horizon", ("K2HorizonForCausalLM",)),
    ("minimax_m2", ("MiniMaxM2ForCausalLM",)),
    ("minimax_m3", _MINIMAX_M3),
    ("seed_oss", ("SeedOssForCausalLM",)),
    ("granite", ("GraniteForCausalLM", "GraniteMoeForCausalLM")),
    ("granite4", ("GraniteMoeHybridForCausalLM",)),
    ("internlm", ("InternLM2ForCausalLM",)),
    ("lfm2", ("Lfm2ForCausalLM", "Lfm2MoeForCausalLM")),
    ("longcat", ("LongcatFlashForCausalLM",)),
    ("mimo", _MIMO),
    ("ernie45", ("Ernie4_5_MoeForCausalLM",)),
    ("hunyuan_a13b", ("HunYuanMoEV1ForCausalLM",)),
    ("hy_v3", ("HYV3ForCausalLM",)),
    ("hy_v4", ("HYV4ForCausalLM",)),
    ("cohere_command3", _COHERE),
    ("olmo3", ("Olmo3ForCausalLM",)),
    ("plamo3", ("Plamo3ForCausalLM",)),
    ("step3", ("Step3TextForCausalLM", "Step3VLForConditionalGeneration")),
    ("step3p5", ("Step3p5ForCausalLM",)),
    ("apertus", ("ApertusForCausalLM",)),
    ("inkling", _INKLING),
    ("muse_glimmer", _MUSE),
)

REASONING_PARSERS = _by_architecture(
    ("openai_gptoss", ("GptOssForCausalLM",)),
    ("gemma4", _GEMMA4),
    ("qwen3", _QWEN3_5),
    ("glm45", _GLM),
    ("deepseek_v4", ("DeepseekV4ForCausalLM",)),
    ("deepseek_v41", ("DeepseekV41ForCausalLM",)),
    ("kimi_k3", ("KimiK3ForConditionalGeneration",)),
    ("k2_horizon", ("K2HorizonForCausalLM",)),
    ("minimax_m2", ("MiniMaxM2ForCausalLM",)),
    ("minimax_m3", _MINIMAX_M3),
    ("seed_oss", ("SeedOssForCausalLM",)),
    ("hunyuan_a13b", ("HunYuanMoEV1ForCausalLM",)),
    ("hy_v3", ("HYV3ForCausalLM",)),
    ("hy_v4", ("HYV4ForCausalLM",)),
    ("mimo", _MIMO),
    ("step3", ("Step3TextForCausalLM", "Step3VLForConditionalGeneration")),
    ("step3p5", ("Step3p5ForCausalLM",)),
    ("inkling", _INKLING),
    ("muse_glimmer", _MUSE),
)
"""Without those whose models think or not, with no sign of it in their name: there an answer
without thoughts would be taken for thoughts alone."""


def tool_parser(architecture: str, chosen: str | None) -> str:
    """A name of vLLM's --tool-call-parser, "" for none."""
    return _parser(TOOL_PARSERS, architecture, chosen)


def reasoning_parser(architecture: str, chosen: str | None) -> str:
    """A name of vLLM's --reasoning-parser, "" for none."""
    return _parser(REASONING_PARSERS, architecture, chosen)


def _parser(table: Mapping[str, str], architecture: str, chosen: str | None) -> str:
    if chosen is None:
        return table.get(architecture, "")
    return "" if chosen == OFF else chosen
