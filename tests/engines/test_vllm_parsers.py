"""Parsers by architecture."""

from __future__ import annotations

import re

import pytest

from runner.engines.catalog import description_of
from runner.engines.flag_help import captured_help
from runner.engines.vllm_parsers import (
    REASONING_PARSERS,
    TOOL_PARSERS,
    reasoning_parser,
    tool_parser,
)


def test_the_tables_name_architectures_of_the_pinned_version() -> None:
    assert description_of("vllm").architectures >= {*TOOL_PARSERS, *REASONING_PARSERS}


def test_the_tool_parsers_are_those_of_the_pinned_version() -> None:
    listed = re.search(r"--tool-call-parser \{([\w,-]+)\}", captured_help("vllm"))
    assert listed
    assert set(listed[1].split(",")) >= set(TOOL_PARSERS.values())


@pytest.mark.parametrize(
    ("architecture", "chosen", "tools", "reasoning"),
    [
        ("Qwen3ForCausalLM", None, "hermes", ""),
        ("Qwen3_5MoeForCausalLM", None, "qwen3_coder", "qwen3"),
        ("LlamaForCausalLM", None, "", ""),
        ("DeepseekV4ForCausalLM", None, "deepseek_v4", "deepseek_v4"),
        ("GptOssForCausalLM", None, "openai", "openai_gptoss"),
        ("GptOssForCausalLM", "none", "", ""),
        ("LlamaForCausalLM", "hermes", "hermes", "hermes"),
        ("SomethingNew", None, "", ""),
        ("", None, "", ""),
    ],
)
def test_parsers(architecture: str, chosen: str | None, tools: str, reasoning: str) -> None:
    assert tool_parser(architecture, chosen) == tools
    assert reasoning_parser(architecture, chosen) == reasoning
