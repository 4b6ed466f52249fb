"""What `--gpu auto` comes to on a host, and what is refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.engines.recommendation import recommended
from runner.errors import BadInput, EngineNotInstalled, NoEngineFits
from runner.names import Accelerator
from tests.engines.stage import LLAMA, MAC, MLX, NVIDIA, PLAIN, VLLM


def test_auto_takes_the_newest_gpu_variant_that_the_host_can_run() -> None:
    assert recommended(LLAMA, NVIDIA).variant.name == "cuda13"
    old = replace(NVIDIA, gpus=tuple(replace(gpu, driver="550.54.14") for gpu in NVIDIA.gpus))
    found = recommended(LLAMA, old)
    assert found.variant.name == "cuda12"
    assert [verdict.code.value for verdict in found.passed_over] == ["driver"]


def test_auto_falls_back_to_the_cpu_and_says_why() -> None:
    found = recommended(LLAMA, PLAIN)
    assert found.variant.name == "cpu"
    assert {verdict.subject for verdict in found.passed_over} == {
        "llama.cpp/cuda12",
        "llama.cpp/cuda13",
    }


def test_an_accelerator_by_name_is_an_error_where_it_can_not_be_had() -> None:
    with pytest.raises(NoEngineFits, match="vllm/cuda") as caught:
        recommended(VLLM, PLAIN, Accelerator.CUDA)
    assert caught.value.hint
    with pytest.raises(EngineNotInstalled) as none:
        recommended(VLLM, NVIDIA, Accelerator.MUSA)
    assert none.value.hint == "there is: --gpu none, --gpu cuda"


def test_a_gpu_that_containers_can_not_be_given_is_an_error_by_name() -> None:
    assert NVIDIA.docker
    bare = replace(NVIDIA, docker=replace(NVIDIA.docker, runtimes=frozenset(), cdi_devices=()))
    with pytest.raises(NoEngineFits) as caught:
        recommended(LLAMA, bare, Accelerator.CUDA)
    assert "nvidia-ctk" in caught.value.hint
    assert recommended(LLAMA, bare).variant.name == "cpu"


def test_a_variant_by_name() -> None:
    assert recommended(LLAMA, NVIDIA, name="cuda12").variant.name == "cuda12"
    with pytest.raises(BadInput) as caught:
        recommended(LLAMA, NVIDIA, name="cuda11")
    assert caught.value.hint.startswith("did you mean cuda1")


def test_environments_are_for_their_platform() -> None:
    assert recommended(MLX, MAC).variant.name == "metal"
    assert recommended(MLX, PLAIN).variant.name == "cpu"
    with pytest.raises(NoEngineFits, match="this is darwin/arm64"):
        recommended(MLX, MAC, Accelerator.CPU)
