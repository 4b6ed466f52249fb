"""The GPUs on which vLLM can't read a quantization, on recorded hosts and as vLLM says itself."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace

import pytest

from runner.artifacts.media import ModelFormat
from runner.engines.abilities import knows
from runner.engines.candidate import Candidate, Wish
from runner.engines.catalog import description_of
from runner.engines.evaluation import evaluate
from runner.engines.options import Options
from runner.engines.verdicts import Code
from runner.engines.vllm import Vllm
from runner.engines.vllm_targets import LACKING
from runner.hardware.amd import amd
from runner.hardware.host import HostFacts
from runner.models.traits import ModelTraits
from tests.hardware.hosts import probe, recorded_host
from tests.support.images import IMAGES, built_engine

ENGINE = Vllm(description_of("vllm"))
READS = ENGINE.description.formats[ModelFormat.SAFETENSORS]
OLDEST_NVIDIA = 75
FP8 = ["fp8", "fbgemm_fp8", "modelopt-fp8", "compressed-tensors-fp8"]


def host(name: str, target: str) -> HostFacts:
    facts = recorded_host(name)
    return replace(facts, gpus=tuple(replace(gpu, target=target) for gpu in facts.gpus))


def refusals(
    facts: HostFacts,
    variant: str,
    quantization: str,
    options: Options = Options(),  # noqa: B008
) -> list[tuple[Code, str, str]]:
    made = ENGINE.description.variant(variant)
    assert made is not None
    model = ModelTraits(ModelFormat.SAFETENSORS, quantization, "LlamaForCausalLM", "llama")
    found = evaluate(Candidate(ENGINE, made, options=options), model, facts, Wish("vllm"))
    return [
        (one.code, one.found, one.required)
        for one in found
        if not one.ok and one.code is not Code.INSTALLED
    ]


@pytest.mark.parametrize("quantization", FP8)
@pytest.mark.parametrize(
    ("target", "is_able"),
    [
        ("gfx90a", False),
        ("gfx942", True),
        ("gfx950", True),
        ("gfx1100", False),
        ("gfx1101", False),
        ("gfx1150", False),
        ("gfx1151", False),
        ("gfx1200", True),
        ("gfx1201", True),
        ("", True),  # what a GPU does not tell speaks against nothing
    ],
)
def test_fp8_on_amd(target: str, quantization: str, is_able: bool) -> None:
    able = f"gfx942, gfx950, gfx1200, gfx1201 for {quantization}"
    refused = [] if is_able else [(Code.TARGET, f"the GPU is {target}", able)]
    assert refusals(host("amd", target), "rocm", quantization) == refused


@pytest.mark.parametrize("target", ["gfx90a", "gfx1100", "gfx1151"])
@pytest.mark.parametrize(
    "quantization", ["none", "awq-int4", "gptq-int8", "compressed-tensors-int8"]
)
def test_other_weights_are_read_on_every_amd_target(target: str, quantization: str) -> None:
    assert refusals(host("amd", target), "rocm", quantization) == []


@pytest.mark.parametrize(
    ("target", "quantization", "is_able"),
    [
        ("sm_75", "fp8", True),  # unpacked by Marlin
        ("sm_75", "compressed-tensors-fp8", True),
        ("sm_75", "awq-int4", True),
        ("sm_75", "mxfp4", False),
        ("sm_75", "fbgemm_fp8", False),
        ("sm_75", "modelopt-fp8", False),
        ("sm_80", "mxfp4", True),
        ("sm_80", "fbgemm_fp8", True),
        ("sm_80", "modelopt-fp8", True),
    ],
)
def test_nvidias_oldest_target(target: str, quantization: str, is_able: bool) -> None:
    able = f"sm_80, sm_86, sm_87, sm_89, sm_90, sm_100 and 4 more for {quantization}"
    refused = [] if is_able else [(Code.TARGET, f"the GPU is {target}", able)]
    assert refusals(host("nvidia", target), "cuda", quantization) == refused


def test_a_gpu_that_it_is_not_compiled_for_is_told_once() -> None:
    ((code, found, required),) = refusals(host("amd", "gfx1030"), "rocm", "fp8")
    assert (code, found) == (Code.TARGET, "the GPU is gfx1030")
    assert " for " not in required


def test_of_several_gpus_those_count_that_the_model_is_given() -> None:
    """The largest by itself; others where they are named, or needed."""
    facts = recorded_host("amd")
    (card,) = facts.gpus
    big = replace(card, index=1, uuid="GPU-b", target="gfx942", memory=(card.memory or 0) * 4)
    both = replace(facts, gpus=(card, big))
    assert refusals(both, "rocm", "fp8") == []
    for options in (Options(gpus=("0",)), Options(tensor_parallel_size=2)):
        ((code, found, _),) = refusals(both, "rocm", "fp8", options)
        assert (code, found) == (Code.TARGET, "the GPU is gfx1100")
    ((code, _, _),) = refusals(both, "rocm", "fp8", Options(gpus=("7",)))
    assert code is Code.GPUS


def test_eight_mi300x_take_fp8() -> None:
    facts = replace(recorded_host("amd"), gpus=amd(probe("mi300x-8")).gpus)
    assert {gpu.target for gpu in facts.gpus} == {"gfx942"}
    assert refusals(facts, "rocm", "fp8", Options(tensor_parallel_size=8)) == []


def test_the_table_speaks_of_what_there_is() -> None:
    targets = {one for made in ENGINE.description.variants for one in made.requires.targets}
    assert set(LACKING) <= targets
    assert all(knows(name, READS) for names in LACKING.values() for name in names)


@pytest.mark.docker
def test_nvidias_part_is_what_the_pinned_version_says(base_image: str) -> None:
    """`get_min_capability` of every method that engine.yaml names, asked of vLLM itself."""
    program = (
        "import json, sys\n"
        "from vllm.model_executor.layers.quantization import get_quantization_config as of\n"
        "print(json.dumps({n: of(n).get_min_capability() for n in sys.argv[1:]}))"
    )
    own = {
        "modelopt-fp8": "modelopt",
        "modelopt-fp4": "modelopt_fp4",
        **{one: "inc" for one in READS if one.startswith("auto-round-")},
    }
    names = {
        one: own.get(one, one if "_" in one else one.partition("-int")[0])
        for one in READS
        if one not in ("none", "modelopt") and not one.startswith("compressed-tensors-")
    }
    ran = subprocess.run(
        [
            *("docker", "run", "--rm", "--label", "runner.test=1", "--network", "none"),
            *("--entrypoint", "/engine/bin/python3", "--tmpfs", "/tmp", "--env", "HOME=/tmp"),
            *(built_engine(base_image, IMAGES / "vllm" / "cpu"), "-c", program),
            *dict.fromkeys(names.values()),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    least = json.loads(ran.stdout.splitlines()[-1])
    newer = {one for one, name in names.items() if least[name] > OLDEST_NVIDIA}
    assert newer == LACKING[f"sm_{OLDEST_NVIDIA}"]
