"""Each verdict that speaks against a candidate says what to do next, by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.artifacts.media import ModelFormat
from runner.engines.base import Mode
from runner.engines.candidate import Wish
from runner.engines.offer import candidates
from runner.engines.options import Options
from runner.engines.selection import Preferences, decide
from runner.engines.verdicts import Code
from runner.hardware.host import HostFacts
from runner.models.traits import ModelTraits
from runner.names import Accelerator
from runner.settings import BackendSettings, Placement, Settings
from tests.engines.stage import ENGINES, GGUF, MAC, NVIDIA, PLAIN, QWEN

NOTHING = Options()
ANY = Wish()


def steps(
    label: str,
    traits: ModelTraits,
    host: HostFacts = PLAIN,
    wish: Wish = ANY,
    options: Options = NOTHING,
    settings: Settings | None = None,
) -> dict[Code, str]:
    """The hints of what speaks against a variant, among all engines."""
    offered = candidates(ENGINES, (), settings or Settings(), host, lambda name: options)
    named = [one for one in offered if one.variant.name != "native"]
    found = decide(named, traits, host, wish, Preferences())
    (one,) = [one for one in found.judged if one.candidate.label == label]
    return {verdict.code: verdict.hint for verdict in one.against}


@pytest.mark.parametrize(
    ("label", "wish", "hint"),
    [
        ("vllm/cpu", Wish("llama.cpp"), "leave --backend out, or take --backend vllm"),
        ("vllm/cpu", Wish("", Accelerator.CUDA), "leave --gpu out, or take --gpu none"),
        ("vllm/cuda", Wish("", Accelerator.CPU), "leave --gpu out, or take --gpu cuda"),
        ("vllm/cpu", Wish("vllm", variant="cuda"), "take --backend vllm:cpu"),
    ],
)
def test_what_was_asked_for_otherwise(label: str, wish: Wish, hint: str) -> None:
    assert steps(label, QWEN, wish=wish)[Code.ENGINE] == hint


def test_engines_for_the_format_are_named() -> None:
    assert steps("vllm/cpu", GGUF)[Code.FORMAT] == "use llama.cpp"
    pickled = replace(QWEN, format=ModelFormat.PYTORCH)
    assert steps("vllm/cpu", pickled)[Code.FORMAT] == "use transformers"
    assert steps("llama.cpp/cpu", QWEN)[Code.FORMAT] == "use mlx-lm or transformers or vllm"


def test_engines_that_this_host_can_not_run_are_not_named() -> None:
    """Without Docker nothing but MLX LM runs on a Mac."""
    assert steps("llama.cpp/cpu", QWEN, MAC)[Code.FORMAT] == "use mlx-lm"
    assert steps("vllm/cpu", GGUF, MAC)[Code.FORMAT] == (
        "no engine here does: take it in another format"
    )


@pytest.mark.parametrize(
    ("host", "quantization", "hint"),
    [
        (PLAIN, "awq-int4", "use transformers, or the model in another quantization"),
        (NVIDIA, "awq-int4", "use transformers or vllm/cuda, or the model in another quantization"),
        (PLAIN, "odd", "no engine here reads it: take the model in another quantization"),
    ],
)
def test_engines_for_the_quantization_are_named(
    host: HostFacts, quantization: str, hint: str
) -> None:
    found = steps("vllm/cpu", replace(QWEN, quantization=quantization), host)
    assert found[Code.QUANTIZATION] == hint


def test_engines_for_the_architecture_are_named() -> None:
    new = replace(QWEN, architecture="NewForCausalLM", model_type="new")
    version = ENGINES["vllm"].description.variants[0].version
    unknown = f"vllm {version} does not know it: "
    assert steps("vllm/cpu", new)[Code.ARCHITECTURE] == f"{unknown}use mlx-lm or transformers"
    unread = replace(new, quantization="fp8")
    assert steps("vllm/cpu", unread)[Code.ARCHITECTURE] == (
        f"{unknown}no engine here does: take another model"
    )


def test_engines_for_the_mode_are_named() -> None:
    found = steps("vllm/cpu", QWEN, wish=Wish(mode=Mode.RERANKING))
    able = [
        name
        for name, one in ENGINES.items()
        if Mode.RERANKING in one.description.modes
        and ModelFormat.SAFETENSORS in one.description.formats
    ]
    assert able == []
    assert found[Code.MODE] == "no engine here does reranking with safetensors: take another model"


def test_engines_that_have_the_option_are_named() -> None:
    taken = "take tensor_parallel_size out of the model's configuration"
    found = steps("mlx-lm/cpu", QWEN, options=Options(tensor_parallel_size=1))
    assert found[Code.OPTION] == f"{taken}, or use vllm"
    layers = steps("mlx-lm/cpu", QWEN, options=Options(gpu_layers=1))
    assert layers[Code.OPTION] == "take gpu_layers out of the model's configuration"


def test_the_setting_that_places_it_is_named() -> None:
    containers = Settings(backends={"mlx-lm": BackendSettings(placement=Placement.DOCKER)})
    found = steps("mlx-lm/cpu", QWEN, settings=containers)
    assert found[Code.PLACEMENT] == "set backends.mlx-lm.placement to auto in the settings"


def test_the_platform_that_a_variant_should_be_for_is_named() -> None:
    assert steps("mlx-lm/metal", QWEN)[Code.PLATFORM] == "use a variant for linux/amd64"
