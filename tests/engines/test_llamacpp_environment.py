"""What becomes of a user's environment variables that llama.cpp reads."""

from __future__ import annotations

import re

import pytest

from runner.engines.environment import (
    COMMON_RULES,
    NATIVE_RULES,
    EnvironmentRule,
    Outcome,
    settle,
)
from runner.engines.flag_help import captured_help
from runner.engines.llamacpp import ENVIRONMENT_RULES


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("LLAMA_ARG_MODEL", Outcome.DROPPED),
        ("LLAMA_API_KEY", Outcome.DROPPED),
        ("MTMD_BACKEND_DEVICE", Outcome.DROPPED),
        ("LLAMA_SERVER_ROUTER_PORT", Outcome.DROPPED),
        ("LLAMA_SERVER_CHILD_MODE", Outcome.DROPPED),
        ("LLAMA_SERVER_SLOTS_DEBUG", Outcome.DROPPED),
        ("LLAMA_CACHE", Outcome.DROPPED),
        ("MODEL_ENDPOINT", Outcome.DROPPED),
        ("HUGGINGFACE_HUB_CACHE", Outcome.DROPPED),
        ("XDG_CACHE_HOME", Outcome.DROPPED),
        ("AIP_HTTP_PORT", Outcome.DROPPED),
        ("GGML_BACKEND_PATH", Outcome.DROPPED),
        ("GGML_VK_VISIBLE_DEVICES", Outcome.DROPPED),
        ("HF_ENDPOINT", Outcome.DROPPED),
        ("LD_PRELOAD", Outcome.DROPPED),
        ("NO_COLOR", Outcome.KEPT),
        ("LLAMA_TRACE", Outcome.KEPT),
        ("GGML_CUDA_ENABLE_UNIFIED_MEMORY", Outcome.KEPT),
        ("OMP_NUM_THREADS", Outcome.KEPT),
    ],
)
def test_environment(name: str, outcome: Outcome) -> None:
    settled = settle({name: "1"}, (*ENVIRONMENT_RULES, *COMMON_RULES), {})
    assert settled.fates[0].outcome is outcome


@pytest.mark.parametrize("more", [(), NATIVE_RULES], ids=["container", "native"])
def test_no_variable_stands_for_a_flag(more: tuple[EnvironmentRule, ...]) -> None:
    """Each that the help names, whether the runner sets its flag or not: nobody checks it there."""
    named = re.findall(r"env: ([A-Z0-9_]+)", captured_help("llama.cpp"))
    settled = settle(dict.fromkeys(named, "1"), (*ENVIRONMENT_RULES, *COMMON_RULES, *more), {})
    assert {"LLAMA_ARG_HOST", "LLAMA_ARG_MODEL", "LLAMA_ARG_CTX_SIZE", "LLAMA_API_KEY"} <= set(
        named
    )
    assert [str(fate) for fate in settled.fates if fate.outcome is not Outcome.DROPPED] == []
    assert all(fate.reason for fate in settled.fates)
    assert settled.environment == {"NO_COLOR": "1"}
