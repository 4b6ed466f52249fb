"""What `runner explain` says of real artifacts on recorded hosts is what an expert would say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from runner.engines.candidate import Wish
from runner.engines.offer import candidates
from runner.engines.registered import Engines, engines
from runner.engines.selection import Decision, Preferences, decide
from runner.engines.verdicts import Code
from runner.errors import NoEngineFits
from runner.hardware.host import HostFacts
from runner.hardware.nvidia import nvidia
from runner.models.package import package
from runner.models.traits import ModelTraits, read_traits
from runner.settings import Settings
from runner.store.store import ModelStore
from tests.engines.artifacts import QUANTIZED, orders
from tests.hardware.hosts import probe, recorded_host

WHEEL = "native"
"""Whether xllamacpp lies beside this Python is no part of what an expert would say."""


@pytest.fixture(scope="module")
def shipped() -> Engines:
    return engines()


@pytest.fixture(scope="module")
def traits(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, ModelTraits]:
    """Of artifacts in a store: each kind packaged and laid out as an engine would be given it."""
    folder = tmp_path_factory.mktemp("experts")
    store = ModelStore(folder / "store")
    models = {name: package(store, order) for name, order in orders(folder).items()}
    return {name: read_traits(store.bundle(model.id)) for name, model in models.items()}


def _decided(shipped: Engines, traits: ModelTraits, host: str) -> Decision:
    return _decided_on(shipped, traits, recorded_host(host))


def _decided_on(shipped: Engines, traits: ModelTraits, facts: HostFacts) -> Decision:
    offered = [
        one for one in candidates(shipped, (), Settings(), facts) if one.variant.name != WHEEL
    ]
    return decide(offered, traits, facts, Wish(), Preferences())


@pytest.mark.parametrize(
    ("host", "model", "best"),
    [
        ("nvidia", "gguf", "llama.cpp/cuda13"),
        ("nvidia", "safetensors", "vllm/cuda"),
        ("nvidia", "modelpack", "vllm/cuda"),
        ("nvidia", "awq", "vllm/cuda"),
        ("nvidia", "gptq", "vllm/cuda"),
        ("nvidia", "gptq3", None),
        ("nvidia", "gptq4", "vllm/cuda"),
        ("nvidia", "fp8", "vllm/cuda"),
        ("nvidia", "mlx", "mlx-lm/cpu"),
        ("amd", "gguf", "llama.cpp/cpu"),
        ("amd", "safetensors", "vllm/rocm"),
        ("amd", "modelpack", "vllm/rocm"),
        ("amd", "awq", "vllm/rocm"),
        ("amd", "gptq", "vllm/rocm"),
        ("amd", "gptq3", None),
        ("amd", "gptq4", "vllm/rocm"),
        ("amd", "fp8", "vllm/cpu"),  # an RX 7900 XTX has no units for it
        ("amd", "mlx", "mlx-lm/cpu"),
        ("mac", "gguf", None),  # but for the wheel, which has Metal
        ("mac", "safetensors", "mlx-lm/metal"),
        ("mac", "modelpack", "mlx-lm/metal"),
        ("mac", "mlx", "mlx-lm/metal"),
        ("mac", "awq", "mlx-lm/metal"),
        ("mac", "gptq", None),  # MLX LM takes it for AWQ, and loads none
        ("mac", "gptq3", None),
        ("mac", "gptq4", None),
        ("mac", "fp8", None),
        ("cpu", "adapter", None),
        ("cpu", "painter", None),
        ("cpu", "gguf", "llama.cpp/cpu"),
        ("cpu", "safetensors", "vllm/cpu"),
        ("cpu", "modelpack", "vllm/cpu"),
        ("cpu", "awq", "vllm/cpu"),
        ("cpu", "gptq", None),
        ("cpu", "gptq3", None),
        ("cpu", "gptq4", "vllm/cpu"),
        ("cpu", "fp8", "vllm/cpu"),
        ("cpu", "mlx", "mlx-lm/cpu"),
    ],
)
def test_what_to_install_for_it(
    shipped: Engines, traits: Mapping[str, ModelTraits], host: str, model: str, best: str | None
) -> None:
    """With nothing installed the first in the list is what an expert would tell to install."""
    found = _decided(shipped, traits[model], host)
    first = found.judged[0]
    assert (first.candidate.label if first.could_serve else None) == best


@pytest.mark.parametrize(
    ("target", "best"),
    [("gfx942", "vllm/rocm"), ("gfx1201", "vllm/rocm"), ("gfx90a", "vllm/cpu")],
)
def test_the_target_tells_whether_amd_takes_fp8(
    shipped: Engines, traits: Mapping[str, ModelTraits], target: str, best: str
) -> None:
    host = recorded_host("amd")
    facts = replace(host, gpus=tuple(replace(gpu, target=target) for gpu in host.gpus))
    first = _decided_on(shipped, traits["fp8"], facts).judged[0]
    assert (first.candidate.label, first.could_serve) == (best, True)


@pytest.mark.parametrize(
    ("machine", "driver", "best"),
    [
        ("rtx-4090", "535.104.05", "llama.cpp/cpu"),
        ("rtx-4090", "550.54.14", "llama.cpp/cuda12"),
        ("rtx-4090", "580.95.05", "llama.cpp/cuda13"),
        ("a100-pair", "535.104.05", "llama.cpp/cpu"),
        ("a100-pair", "580.95.05", "llama.cpp/cuda12"),
        ("a100-pair", "615.71.09", "llama.cpp/cuda13"),
    ],
)
def test_the_driver_and_the_target_choose_the_cuda(
    shipped: Engines, traits: Mapping[str, ModelTraits], machine: str, driver: str, best: str
) -> None:
    """llama.cpp's images hold machine code for the RTX 4090, and for the A100 PTX alone."""
    gpus = tuple(replace(gpu, driver=driver) for gpu in nvidia(probe(machine)).gpus)
    facts = replace(recorded_host("nvidia"), gpus=gpus)
    first = _decided_on(shipped, traits["gguf"], facts).judged[0]
    assert (first.candidate.label, first.could_serve) == (best, True)


def test_reasons_are_those_that_an_expert_names(
    shipped: Engines, traits: Mapping[str, ModelTraits]
) -> None:
    def against(model: str, host: str, label: str) -> set[Code]:
        (one,) = [
            one
            for one in _decided(shipped, traits[model], host).judged
            if one.candidate.label == label
        ]
        return {verdict.code for verdict in one.against} - {Code.INSTALLED}

    assert against("adapter", "cpu", "llama.cpp/cpu") == {Code.ADAPTER}
    assert against("painter", "cpu", "llama.cpp/cpu") == {Code.ARCHITECTURE}
    assert against("mlx", "nvidia", "vllm/cuda") == {Code.QUANTIZATION}
    assert against("gptq3", "nvidia", "vllm/cuda") == {Code.QUANTIZATION}
    assert against("gptq4", "mac", "mlx-lm/metal") == {Code.QUANTIZATION}
    assert against("fp8", "amd", "vllm/rocm") == {Code.TARGET}
    assert against("safetensors", "nvidia", "vllm/rocm") == {Code.ACCELERATOR}
    assert against("safetensors", "mac", "vllm/cpu") == {Code.PLATFORM}
    assert against("gguf", "mac", "llama.cpp/cuda13") == {Code.PLATFORM, Code.ACCELERATOR}
    assert against("gguf", "cpu", "vllm/cpu") == {Code.FORMAT}
    assert against("safetensors", "amd", "llama.cpp/cpu") == {Code.FORMAT}


@pytest.mark.parametrize("host", ["mac", "cpu"])
def test_where_no_engine_can_another_quantization_is_nearer_than_another_machine(
    shipped: Engines, traits: Mapping[str, ModelTraits], host: str
) -> None:
    with pytest.raises(NoEngineFits) as caught:
        _decided(shipped, traits["gptq"], host).chosen()
    assert caught.value.hint == "no engine here reads it: take the model in another quantization"


def test_traits_come_from_the_files(traits: Mapping[str, ModelTraits]) -> None:
    assert traits["gguf"].architecture == "llama"
    assert traits["safetensors"].architecture == "LlamaForCausalLM"
    assert traits["modelpack"] == traits["safetensors"]
    assert traits["gguf"].kv_bytes == traits["safetensors"].kv_bytes
    assert traits["gguf"].heads == traits["safetensors"].heads
    quantizations = {name: traits[name].quantization for name in QUANTIZED}
    assert quantizations == {
        "awq": "awq-int4",
        "gptq": "gptq-int8",
        "gptq3": "gptq-int3",
        "gptq4": "gptq-int4",
        "fp8": "fp8",
        "mlx": "mlx-int4",
    }
    assert replace(traits["awq"], quantization="none", size=0) == replace(
        traits["safetensors"], size=0
    )
