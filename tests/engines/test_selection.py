"""Which variant serves a model, and why it and no other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as some

from runner.artifacts.media import ModelFormat
from runner.engines.base import Mode
from runner.engines.candidate import Wish
from runner.engines.description import Requirements
from runner.engines.offer import candidates
from runner.engines.options import Options
from runner.engines.selection import Decision, Preferences, decide
from runner.engines.verdicts import Code
from runner.errors import BadInput, EngineNotFound, EngineNotInstalled, NoEngineFits
from runner.hardware.host import HostFacts
from runner.models.traits import ModelTraits
from runner.names import Accelerator
from runner.settings import BackendSettings, Placement, Settings
from runner.state import Install
from tests.engines.stage import (
    ENGINES,
    EVERYTHING,
    GGUF,
    MAC,
    NVIDIA,
    PLAIN,
    QWEN,
    StagedEngine,
    engine,
    installed,
    variant,
)

NOTHING_WANTED = Preferences()


def decided(
    traits: ModelTraits = GGUF,
    host: HostFacts = PLAIN,
    installs: Sequence[Install] = EVERYTHING,
    wish: Wish = Wish(),  # noqa: B008 - frozen
    preferences: Preferences = NOTHING_WANTED,
    settings: Settings | None = None,
    options: Options = Options(),  # noqa: B008 - frozen
) -> Decision:
    """Without the wheel of this machine, whose presence is no part of what is decided here."""
    offered = candidates(ENGINES, installs, settings or Settings(), host, lambda name: options)
    return decide(
        [one for one in offered if one.variant.name != "native"], traits, host, wish, preferences
    )


@pytest.mark.parametrize(
    ("traits", "host", "label"),
    [
        (GGUF, PLAIN, "llama.cpp/cpu"),
        (GGUF, NVIDIA, "llama.cpp/cuda13"),
        (QWEN, PLAIN, "vllm/cpu"),
        (QWEN, NVIDIA, "vllm/cuda"),
        (replace(QWEN, quantization="awq-int4"), NVIDIA, "vllm/cuda"),
        (replace(QWEN, quantization="awq-int4"), PLAIN, "transformers/cpu"),
        (replace(QWEN, quantization="gptq-int8"), NVIDIA, "vllm/cuda"),
        (replace(QWEN, architecture="NewForCausalLM", model_type="new"), NVIDIA,
         "transformers/cuda"),
        (replace(QWEN, format=ModelFormat.PYTORCH), NVIDIA, "transformers/cuda"),
        (QWEN, MAC, "mlx-lm/metal"),
        (replace(QWEN, quantization="mlx-int4"), MAC, "mlx-lm/metal"),
        (replace(QWEN, quantization="mlx-int4"), PLAIN, "mlx-lm/cpu"),
    ],
)  # fmt: skip
def test_what_an_expert_would_choose(traits: ModelTraits, host: HostFacts, label: str) -> None:
    assert decided(traits, host).chosen().label == label


def test_an_older_driver_gets_the_variant_that_it_can_run() -> None:
    old = replace(NVIDIA, gpus=tuple(replace(gpu, driver="535.104.05") for gpu in NVIDIA.gpus))
    found = decided(GGUF, old)
    assert found.chosen().label == "llama.cpp/cuda12"
    (against,) = [one for one in found.judged if one.candidate.label == "llama.cpp/cuda13"]
    assert [(v.code, v.found) for v in against.against] == [("driver", "the driver is 535.104.05")]


def test_a_gpu_that_a_variant_is_not_compiled_for() -> None:
    pascal = replace(NVIDIA, gpus=tuple(replace(gpu, target="sm_61") for gpu in NVIDIA.gpus))
    assert decided(GGUF, pascal).chosen().label == "llama.cpp/cuda12"


def test_the_users_engine_for_a_format_goes_first() -> None:
    mine = Preferences(formats={ModelFormat.SAFETENSORS: "transformers"})
    found = decided(QWEN, preferences=mine)
    assert found.chosen().name == "transformers"
    assert found.reason == "transformers is yours for safetensors"


def test_the_order_of_preference_comes_next() -> None:
    mine = Preferences(order=("mlx-lm", "transformers"))
    assert decided(QWEN, preferences=mine).chosen().name == "mlx-lm"
    first = replace(mine, formats={ModelFormat.SAFETENSORS: "vllm"})
    assert decided(QWEN, preferences=first).chosen().name == "vllm"


def test_a_starred_variant_goes_first_as_long_as_it_can_serve() -> None:
    star = Preferences(variants={"llama.cpp": "cuda12"})
    assert decided(GGUF, NVIDIA, preferences=star).chosen().label == "llama.cpp/cuda12"
    assert decided(GGUF, PLAIN, preferences=star).chosen().label == "llama.cpp/cpu"


def test_an_explicit_variant_or_accelerator_is_honoured() -> None:
    named = Wish("llama.cpp", variant="cuda12")
    assert decided(GGUF, NVIDIA, wish=named).chosen().label == "llama.cpp/cuda12"
    by_gpu = Wish(accelerator=Accelerator.CPU)
    assert decided(QWEN, NVIDIA, wish=by_gpu).chosen().label == "vllm/cpu"
    with pytest.raises(NoEngineFits, match=r"no such GPU|no .*GPU|NVIDIA"):
        decided(GGUF, PLAIN, wish=Wish("llama.cpp", Accelerator.CUDA)).chosen()
    with pytest.raises(NoEngineFits) as caught:
        decided(GGUF, PLAIN, wish=Wish("llama.cpp", Accelerator.ROCM)).chosen()
    assert caught.value.message == "llama.cpp has no variant for rocm"
    assert caught.value.hint == "there is: --gpu none, --gpu cuda"
    with pytest.raises(NoEngineFits) as both:
        decided(wish=Wish("llama.cpp", Accelerator.CUDA, "cpu")).chosen()
    assert both.value.message == "llama.cpp:cpu has no variant for cuda"
    assert both.value.hint == "there is: --gpu none"


def test_an_accelerator_that_no_engine_is_for_is_refused_in_one_line() -> None:
    with pytest.raises(NoEngineFits) as caught:
        decided(GGUF, NVIDIA, wish=Wish(accelerator=Accelerator.MUSA)).chosen()
    assert caught.value.message == "no engine has a variant for musa"
    there = set(caught.value.hint.removeprefix("there is: ").split(", "))
    assert there == {"--gpu none", "--gpu cuda", "--gpu metal"}


def test_wrong_names_get_the_nearest() -> None:
    with pytest.raises(EngineNotFound) as caught:
        decided(wish=Wish("vlm"))
    assert "vllm" in caught.value.hint
    with pytest.raises(BadInput) as wrong:
        decided(wish=Wish("llama.cpp", variant="cuda14"))
    assert "cuda1" in wrong.value.hint
    with pytest.raises(BadInput) as nobodys:
        decided(wish=Wish(variant="cuda14"))
    assert nobodys.value.message == "no engine has a variant 'cuda14'"
    assert "cuda1" in nobodys.value.hint


def test_what_could_serve_but_is_not_installed_is_named() -> None:
    with pytest.raises(EngineNotInstalled) as caught:
        decided(QWEN, NVIDIA, installs=installed("llama.cpp/cpu")).chosen()
    assert caught.value.hint == "runner install-runner --backend vllm --gpu cuda"
    with pytest.raises(EngineNotInstalled) as cuda:
        decided(GGUF, NVIDIA, installs=()).chosen()
    assert cuda.value.hint.endswith("--gpu cuda --variant cuda13")


def test_every_verdict_is_given_without_stopping_at_the_first() -> None:
    strange = replace(QWEN, quantization="odd", architecture="Odd", model_type="odd")
    found = decided(strange, replace(PLAIN, docker=None), installs=())
    (cuda,) = [one for one in found.judged if one.candidate.label == "vllm/cuda"]
    codes = {"quantization", "architecture", "docker", "accelerator", "installed"}
    assert {verdict.code.value for verdict in cuda.against} == codes
    assert all(verdict.hint and verdict.required for verdict in cuda.against)


def test_options_that_an_engine_does_not_have_speak_against_it() -> None:
    layers = Options(gpu_layers=20)
    assert decided(GGUF, options=layers).chosen().name == "llama.cpp"
    with pytest.raises(NoEngineFits, match="gpu_layers is set"):
        decided(QWEN, options=layers).chosen()


def test_tensor_parallel_over_more_gpus_than_there_are_or_heads_that_do_not_divide() -> None:
    with pytest.raises(NoEngineFits, match="there are 1 GPUs, required: 2"):
        decided(QWEN, NVIDIA, wish=Wish("vllm", Accelerator.CUDA),
                options=Options(tensor_parallel_size=2)).chosen()  # fmt: skip
    three = replace(NVIDIA, gpus=tuple(replace(NVIDIA.gpus[0], index=n) for n in range(3)))
    with pytest.raises(NoEngineFits, match="32 attention heads, required: a number that 3"):
        decided(QWEN, three, wish=Wish("vllm", Accelerator.CUDA),
                options=Options(tensor_parallel_size=3)).chosen()  # fmt: skip


def test_tensor_and_pipeline_parallel_together_take_their_product_of_gpus() -> None:
    two = replace(NVIDIA, gpus=tuple(replace(NVIDIA.gpus[0], index=n) for n in range(2)))
    both = Options(tensor_parallel_size=2, pipeline_parallel_size=2)
    asked = Wish("vllm", Accelerator.CUDA)
    with pytest.raises(NoEngineFits, match="there are 2 GPUs, required: 4"):
        decided(QWEN, two, wish=asked, options=both).chosen()
    one_stage = replace(both, pipeline_parallel_size=1)
    assert decided(QWEN, two, wish=asked, options=one_stage).chosen().label == "vllm/cuda"


def among(engines: Sequence[StagedEngine], preferences: Preferences = NOTHING_WANTED) -> Decision:
    """What of these, all installed, would serve a GGUF model with a GPU."""
    labels = [one.label for made in engines for one in made.description.variants]
    by_name = {made.description.name: made for made in engines}
    offered = candidates(by_name, installed(*labels), Settings(), NVIDIA, lambda name: Options())
    return decide(offered, GGUF, NVIDIA, Wish(), preferences)


def test_an_engines_own_default_variant_goes_first_and_the_users_before_it() -> None:
    kinds = [variant("two", name, Accelerator.CUDA) for name in ("a", "b", "c")]
    made = engine("two", {ModelFormat.GGUF: ("any",)}, *kinds, default_variant="b")
    assert among([made]).chosen().label == "two/b"
    assert among([made], Preferences(variants={"two": "c"})).chosen().label == "two/c"


def test_of_engines_of_one_priority_that_on_the_gpu_goes_first() -> None:
    reads = {ModelFormat.GGUF: ("any",)}
    slow = engine("aaa", reads, variant("aaa", "cpu", Accelerator.CPU))
    quick = engine("zzz", reads, variant("zzz", "cuda", Accelerator.CUDA))
    for engines in ([slow, quick], [quick, slow]):
        found = among(engines)
        assert found.chosen().label == "zzz/cuda"
        assert found.reason == "zzz/cuda uses the GPU, aaa/cpu does not"


ANYTHING = {ModelFormat.SAFETENSORS: ("any",)}
OUT_OF_REACH = Requirements("999.0", ("sm_1",))
"""Two verdicts that a newer driver or another card would mend."""
MENDABLE = engine(
    "mendable", ANYTHING, variant("mendable", "cuda", Accelerator.CUDA, requires=OUT_OF_REACH)
)


def refused_among(*engines: StagedEngine) -> str:
    """What the refusal tells of, whichever stands first."""
    told = set()
    for order in (engines, engines[::-1]):
        labels = [one.label for made in order for one in made.description.variants]
        by_name = {made.description.name: made for made in order}
        offered = candidates(
            by_name, installed(*labels), Settings(), NVIDIA, lambda name: Options()
        )
        found = decide(offered, QWEN, NVIDIA, Wish(), NOTHING_WANTED)
        with pytest.raises(NoEngineFits) as caught:
            found.chosen()
        told.add(f"{caught.value.message}; {caught.value.hint}")
    (message,) = told
    return message


HOPELESS = {
    Code.PLATFORM: engine(
        "z", ANYTHING, variant("z", "cpu", Accelerator.CPU, platforms=("linux/riscv64",))
    ),
    Code.ACCELERATOR: engine("z", ANYTHING, variant("z", "rocm", Accelerator.ROCM)),
    Code.QUANTIZATION: engine(
        "z", {ModelFormat.SAFETENSORS: ("awq",)}, variant("z", "cpu", Accelerator.CPU)
    ),
    Code.ARCHITECTURE: engine(
        "z",
        ANYTHING,
        variant("z", "cpu", Accelerator.CPU),
        architectures=frozenset({"OtherForCausalLM"}),
    ),
    Code.MODE: engine(
        "z",
        ANYTHING,
        variant("z", "cpu", Accelerator.CPU),
        modes=frozenset({Mode.EMBEDDING}),
    ),
}
"""Each with one thing against it, that nothing mends."""


@pytest.mark.parametrize("code", HOPELESS)
def test_a_refusal_tells_of_what_can_be_mended_before_what_can_not(code: Code) -> None:
    """However many things are to be mended."""
    hopeless = HOPELESS[code]
    message = refused_among(MENDABLE, hopeless)
    assert "sm_1" in message
    assert "999.0" in message
    assert " z/" not in message
    alone = decide(
        candidates(
            {"z": hopeless},
            installed(*(one.label for one in hopeless.description.variants)),
            Settings(),
            NVIDIA,
            lambda name: Options(),
        ),
        QWEN,
        NVIDIA,
        Wish(),
        NOTHING_WANTED,
    )
    assert [verdict.code for verdict in alone.judged[0].against] == [code]


def test_a_refusal_tells_of_another_format_last() -> None:
    other = engine("z", {ModelFormat.GGUF: ("any",)}, variant("z", "cpu", Accelerator.CPU))
    twice = engine(
        "twice",
        {ModelFormat.SAFETENSORS: ("awq",)},
        variant("twice", "rocm", Accelerator.ROCM, platforms=("linux/riscv64",)),
    )
    message = refused_among(other, twice)
    assert "awq" in message
    assert "the model is safetensors" not in message


def test_a_refusal_tells_of_the_fewest_reasons() -> None:
    once = engine(
        "once",
        ANYTHING,
        variant("once", "cuda", Accelerator.CUDA, requires=Requirements("", ("sm_2",))),
    )
    message = refused_among(MENDABLE, once)
    assert "sm_2" in message
    assert "sm_1," not in message
    assert "999.0" not in message
    quantized = engine(
        "y", {ModelFormat.SAFETENSORS: ("gptq",)}, variant("y", "cpu", Accelerator.CPU)
    )
    both = refused_among(HOPELESS[Code.QUANTIZATION], quantized)
    assert "required: awq" in both
    assert "required: gptq" in both


def test_placement_is_kept() -> None:
    containers = Settings(backends={"mlx-lm": BackendSettings(placement=Placement.DOCKER)})
    mlx = replace(QWEN, quantization="mlx-int4")
    with pytest.raises(NoEngineFits, match="native process, required: docker"):
        decided(mlx, settings=containers, wish=Wish("mlx-lm")).chosen()


def test_fallbacks_are_the_users_and_never_for_an_explicit_engine() -> None:
    mine = Preferences(fallbacks=("vllm", "transformers", "sglang"))
    found = decided(QWEN, NVIDIA, preferences=mine)
    assert [one.label for one in found.fallbacks] == ["transformers/cuda"]
    assert decided(QWEN, NVIDIA, preferences=mine, wish=Wish("vllm")).fallbacks == ()
    assert decided(QWEN, NVIDIA).fallbacks == ()


def test_a_gpu_that_is_not_used_is_told_with_the_reason() -> None:
    """By `auto`, which takes the CPU then."""
    cpu = installed("llama.cpp/cpu")
    assert NVIDIA.docker
    old = replace(NVIDIA, gpus=tuple(replace(gpu, driver="470.1") for gpu in NVIDIA.gpus))
    bare = replace(NVIDIA, docker=replace(NVIDIA.docker, runtimes=frozenset(), cdi_devices=()))
    for host, code in ((NVIDIA, "installed"), (old, "driver"), (bare, "access")):
        found = decided(GGUF, host, cpu)
        assert found.chosen().label == "llama.cpp/cpu"
        assert found.unused_gpu is not None
        assert found.unused_gpu.hard[0].code.value == code
    assert decided(GGUF, NVIDIA).unused_gpu is None
    assert decided(GGUF, PLAIN, cpu).unused_gpu is None


def test_what_was_set_is_named_before_another_engine_is_advised() -> None:
    with pytest.raises(NoEngineFits, match="transformers/cpu could serve this model, but") as why:
        decided(
            QWEN, PLAIN, installed("transformers/cpu"), options=Options(tensor_parallel_size=2)
        ).chosen()
    assert "tensor_parallel_size" in why.value.hint


def test_a_default_that_can_not_serve_is_told() -> None:
    mine = Preferences(formats={ModelFormat.SAFETENSORS: "vllm"})
    found = decided(QWEN, PLAIN, installed("transformers/cpu"), preferences=mine)
    assert found.chosen().name == "transformers"
    assert "vllm, which is yours for safetensors, can't: it is not installed" in found.reason


def test_an_adapter_is_served_by_nobody() -> None:
    with pytest.raises(NoEngineFits, match="it is an adapter"):
        decided(replace(GGUF, is_adapter=True)).chosen()


hosts = some.sampled_from([PLAIN, NVIDIA, MAC])
models = some.builds(
    replace,
    some.sampled_from([GGUF, QWEN]),
    quantization=some.sampled_from(["none", "awq-int4", "mlx-int4", "Q4_K_M", "gptq-int3"]),
)
wishes = some.builds(
    Wish,
    some.sampled_from(["", *ENGINES]),
    some.sampled_from([None, Accelerator.CPU, Accelerator.CUDA, Accelerator.METAL]),
)


@given(hosts, models, wishes, some.permutations(EVERYTHING), some.integers(0, len(EVERYTHING)))
def test_the_order_of_installation_never_matters(
    host: HostFacts, model: ModelTraits, wish: Wish, installs: list[Install], count: int
) -> None:
    some_of_them = installs[:count]
    one = decided(model, host, some_of_them, wish)
    other = decided(model, host, sorted(some_of_them, key=lambda i: (i.variant, i.engine)), wish)
    assert [j.candidate.label for j in one.judged] == [j.candidate.label for j in other.judged]
    assert one.reason == other.reason


@given(hosts, models, wishes, some.permutations(EVERYTHING), some.integers(0, len(EVERYTHING)))
def test_an_explicit_engine_is_honoured_or_refused(
    host: HostFacts, model: ModelTraits, wish: Wish, installs: list[Install], count: int
) -> None:
    found = decided(model, host, installs[:count], wish)
    choice = found.choice
    if choice is None:
        with pytest.raises((NoEngineFits, EngineNotInstalled)) as caught:
            found.chosen()
        assert caught.value.hint
        return
    assert choice.is_installed
    assert wish.engine in ("", choice.name)
    assert wish.accelerator in (None, choice.variant.accelerator)
    assert found.reason
