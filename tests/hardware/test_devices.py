"""Which devices can be had, and which are meant: tables, without any device."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.dockerhost.facts import DockerFacts
from runner.errors import BadInput, Unsupported
from runner.hardware.devices import Lack, Way, cdi_ids, chosen, missing, way_in
from runner.hardware.gpu import Gpu, Vendor
from runner.names import Accelerator
from tests.launch.hosts import APPLE, amd, ascend, docker, host, intel, mig, mthreads, nvidia

PLAIN = docker()


@pytest.mark.parametrize(
    ("gpu", "engine", "way"),
    [
        (nvidia(0), docker("nvidia.com/gpu=0", runtimes=("nvidia",)), Way.CDI),
        (nvidia(0), docker("nvidia.com/gpu=all"), Way.CDI),
        (nvidia(0), docker(runtimes=("nvidia",)), Way.RUNTIME),
        (nvidia(1), docker("nvidia.com/gpu=0", runtimes=("nvidia",)), Way.RUNTIME),
        (nvidia(0), PLAIN, None),
        (mig(0, "1"), docker("nvidia.com/gpu=MIG-1"), Way.CDI),
        (mig(0, "1"), docker("nvidia.com/gpu=0"), None),
        (amd(0), docker("amd.com/gpu=0"), Way.CDI),
        (amd(0), PLAIN, Way.NODES),
        (amd(0), docker(rootless=True), Way.NODES),
        (amd(0), docker(desktop=True), None),
        (intel(0), docker("intel.com/gpu=gpu0"), Way.CDI),
        (intel(0), PLAIN, Way.NODES),
        (Gpu(Vendor.INTEL, 0), PLAIN, None),
        (ascend(0), docker("huawei.com/npu=0", runtimes=("ascend",)), Way.CDI),
        (ascend(0), docker(runtimes=("ascend",)), Way.RUNTIME),
        (ascend(0), PLAIN, Way.NODES),
        (mthreads(0), docker("mthreads.com/gpu=mt-0"), Way.CDI),
        (mthreads(0), docker(runtimes=("mthreads",)), Way.RUNTIME),
        (mthreads(0), PLAIN, None),
        (APPLE, docker(desktop=True), None),
    ],
)
def test_the_way_in(gpu: Gpu, engine: DockerFacts, way: Way | None) -> None:
    assert way_in(gpu.vendor, (gpu,), host(engine, gpu)) is way


@pytest.mark.parametrize(
    ("cards", "engine", "way"),
    [
        ((nvidia(0), nvidia(1)), docker("nvidia.com/gpu=all"), Way.CDI),
        ((nvidia(0), nvidia(1)), docker("nvidia.com/gpu=all", runtimes=("nvidia",)), Way.RUNTIME),
        ((intel(0), intel(1)), docker("intel.com/gpu=all"), Way.NODES),
    ],
)
def test_one_of_two_is_not_given_as_all_where_there_is_another_way(
    cards: tuple[Gpu, Gpu], engine: DockerFacts, way: Way
) -> None:
    here = host(engine, *cards)
    assert way_in(cards[0].vendor, cards, here) is Way.CDI
    assert way_in(cards[0].vendor, cards[:1], here) is way


def test_a_lasting_name_goes_before_a_number() -> None:
    listed = docker("nvidia.com/gpu=0", "nvidia.com/gpu=GPU-0a2b", "nvidia.com/gpu=all")
    assert cdi_ids(Vendor.NVIDIA, [nvidia(0)], listed) == ("nvidia.com/gpu=GPU-0a2b",)


def test_names_that_are_partly_missing_are_no_names() -> None:
    """Half of what was asked for would be a surprise."""
    listed = docker("nvidia.com/gpu=0")
    assert cdi_ids(Vendor.NVIDIA, [nvidia(0), nvidia(1)], listed) == ()
    assert cdi_ids(Vendor.NVIDIA, [nvidia(0)], None) == ()


@pytest.mark.parametrize(
    ("accelerator", "gpu", "engine", "required", "hint"),
    [
        (Accelerator.CUDA, nvidia(0), PLAIN, "nvidia.com/gpu", "nvidia-ctk cdi generate"),
        (Accelerator.CUDA, nvidia(0), PLAIN, "runtime nvidia", "restart docker"),
        (Accelerator.CUDA, nvidia(0), docker(cdi=False), "nvidia", "features.cdi"),
        (Accelerator.ROCM, amd(0), docker(desktop=True), "amd.com/gpu", "/dev/kfd"),
        (Accelerator.SYCL, intel(0), docker(desktop=True), "intel.com/gpu", "/dev/dri"),
        (Accelerator.CANN, ascend(0), docker(desktop=True), "runtime ascend", "Ascend Docker"),
        (Accelerator.MUSA, mthreads(0), PLAIN, "runtime mthreads", "mt-container-toolkit"),
        (Accelerator.VULKAN, intel(0), docker(desktop=True), "intel.com/gpu", "/dev/dri"),
        (Accelerator.METAL, APPLE, docker(desktop=True), "a native process", "native processes"),
    ],
)
def test_found_but_no_way_into_a_container(
    accelerator: Accelerator, gpu: Gpu, engine: DockerFacts, required: str, hint: str
) -> None:
    here = host(engine, gpu)
    problem = missing(accelerator, here)
    assert problem is not None
    assert problem.code is Lack.NO_WAY_IN
    assert required in problem.required
    assert hint in problem.hint
    refusal = problem.refusal(accelerator)
    assert isinstance(refusal, Unsupported)
    assert refusal.hint == problem.hint
    assert f"{accelerator} can't be had" in refusal.message
    assert missing(accelerator, here, native=True) is None


@pytest.mark.parametrize(
    ("accelerator", "hint"),
    [
        (Accelerator.CUDA, "nvidia-smi"),
        (Accelerator.ROCM, "/dev/kfd"),
        (Accelerator.SYCL, "/dev/dri"),
        (Accelerator.CANN, "npu-smi"),
        (Accelerator.MUSA, "mthreads-gmi"),
        (Accelerator.METAL, "Apple silicon"),
        (Accelerator.VULKAN, "nvidia-smi"),
    ],
)
@pytest.mark.parametrize("native", [False, True])
def test_no_gpu(accelerator: Accelerator, hint: str, native: bool) -> None:
    problem = missing(accelerator, host(PLAIN), native=native)
    assert problem is not None
    assert problem.code is Lack.NO_GPU
    assert hint in problem.hint
    assert "--gpu auto" in problem.hint


def test_troubles_are_told() -> None:
    here = replace(host(PLAIN), troubles=("NVML: Driver/library version mismatch",))
    problem = missing(Accelerator.CUDA, here)
    assert problem is not None
    assert "version mismatch" in problem.found


def test_nothing_is_missing() -> None:
    assert missing(Accelerator.CPU, host(PLAIN)) is None
    assert missing(Accelerator.CUDA, host(docker("nvidia.com/gpu=all"), nvidia(0))) is None
    # One that gets in is enough, whichever comes first.
    assert missing(Accelerator.VULKAN, host(PLAIN, nvidia(0), intel(0))) is None


CARDS = (nvidia(0), nvidia(1), nvidia(2))


@pytest.mark.parametrize(
    ("wanted", "indexes"),
    [
        ((), [0, 1, 2]),
        (("all",), [0, 1, 2]),
        (("1",), [1]),
        (("2", "0"), [0, 2]),
        (("1", "1"), [1]),
        (("GPU-2a2b",), [2]),
        (("GPU-2",), [2]),
        (("gpu-2A",), [2]),
        (("nvidia:1", " 0 "), [0, 1]),
    ],
)
def test_chosen(wanted: tuple[str, ...], indexes: list[int]) -> None:
    assert [gpu.index for gpu in chosen(CARDS, wanted)] == indexes


@pytest.mark.parametrize("word", ["3", "GPU-9", "", "amd:0", "-1", "0,1"])
def test_one_that_is_not_there(word: str) -> None:
    with pytest.raises(BadInput, match="there is no GPU") as caught:
        chosen(CARDS, [word])
    assert "nvidia:2 (RTX 4090 GPU-2a2b)" in caught.value.hint


def test_slices_are_chosen_by_name() -> None:
    slices = (mig(0, "1"), mig(0, "2"))
    assert chosen(slices, ["MIG-2"]) == slices[1:]
    with pytest.raises(BadInput, match="any of 2 GPUs"):
        chosen(slices, ["0"])


def test_the_beginning_of_several_names() -> None:
    with pytest.raises(BadInput, match="any of 3 GPUs"):
        chosen(CARDS, ["GPU-"])


def test_several_vendors_count_from_0() -> None:
    mixed = (amd(0), intel(0))
    with pytest.raises(BadInput, match="any of 2 GPUs") as caught:
        chosen(mixed, ["0"])
    assert "amd:0" in caught.value.hint
    assert "intel:0" in caught.value.hint
    assert chosen(mixed, ["intel:0"]) == (mixed[1],)


def test_a_name_of_digits_alone() -> None:
    """As AMD's lasting numbers may be: only the whole one is taken for a name."""
    card = Gpu(Vendor.AMD, 0, uuid="1073456")
    assert chosen([card], ["1073456"]) == (card,)
    with pytest.raises(BadInput):
        chosen([card], ["107"])


def test_nothing_to_choose_from() -> None:
    with pytest.raises(BadInput) as caught:
        chosen((), ["0"])
    assert caught.value.hint == "there are: none"
