"""What each vendor's devices take to be in a container, or to be chosen by a native process."""

from __future__ import annotations

import pytest

from runner.errors import Unsupported
from runner.hardware.gpu import Gpu
from runner.hardware.host import HostFacts
from runner.launch.devicefiles import HostPath
from runner.launch.devices import (
    GIB,
    NO_DEVICES,
    DeviceRequest,
    Devices,
    grant,
    grant_native,
)
from runner.names import Accelerator
from tests.launch.hosts import GROUPS, amd, ascend, docker, host, intel, mig, mthreads, nvidia

NVIDIA_CDI = docker("nvidia.com/gpu=0", "nvidia.com/gpu=1", "nvidia.com/gpu=2")
KFD = HostPath("/dev/kfd")


def granted(accelerator: Accelerator, here: HostFacts, *indexes: int) -> Devices:
    gpus = [gpu for gpu in here.gpus_for(accelerator) if gpu.index in indexes or not indexes]
    return grant(accelerator, gpus, here, tensor_parallel=False)


def cdi(*ids: str) -> tuple[DeviceRequest, ...]:
    return (DeviceRequest("cdi", ids),)


@pytest.mark.parametrize(
    ("accelerator", "here", "indexes", "wanted"),
    [
        pytest.param(
            Accelerator.CUDA,
            host(NVIDIA_CDI, nvidia(0), nvidia(1), nvidia(2)),
            (2,),
            Devices(cdi("nvidia.com/gpu=2"), environment={"CUDA_VISIBLE_DEVICES": "0"}),
            id="nvidia: one of three by CDI",
        ),
        pytest.param(
            Accelerator.CUDA,
            host(NVIDIA_CDI, nvidia(0), nvidia(1), nvidia(2)),
            (1, 2),
            Devices(
                cdi("nvidia.com/gpu=1", "nvidia.com/gpu=2"),
                environment={"CUDA_VISIBLE_DEVICES": "0,1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
            ),
            id="nvidia: two of three by CDI, counted anew",
        ),
        pytest.param(
            Accelerator.CUDA,
            host(docker("nvidia.com/gpu=all"), nvidia(0), nvidia(1)),
            (1,),
            Devices(
                cdi("nvidia.com/gpu=all"),
                environment={"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
            ),
            id="nvidia: on WSL all are inside, counted as on the host",
        ),
        pytest.param(
            Accelerator.CUDA,
            host(docker(runtimes=("nvidia",)), nvidia(0), nvidia(1)),
            (1,),
            Devices(
                (DeviceRequest("nvidia", ("GPU-1a2b",), (("gpu",),)),),
                environment={"CUDA_VISIBLE_DEVICES": "0"},
                runtime="nvidia",
            ),
            id="nvidia: --gpus",
        ),
        pytest.param(
            Accelerator.CUDA,
            host(docker("nvidia.com/gpu=MIG-1", "nvidia.com/gpu=MIG-2"), mig(0, "1"), mig(0, "2")),
            (),
            Devices(
                cdi("nvidia.com/gpu=MIG-1", "nvidia.com/gpu=MIG-2"),
                environment={"CUDA_VISIBLE_DEVICES": "0,1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
            ),
            id="nvidia: slices of one card",
        ),
        pytest.param(
            Accelerator.VULKAN,
            host(docker(runtimes=("nvidia",)), nvidia(0)),
            (),
            Devices(
                (
                    DeviceRequest(
                        "nvidia", ("GPU-0a2b",), (("gpu", "compute", "utility", "graphics"),)
                    ),
                ),
                runtime="nvidia",
            ),
            id="nvidia: Vulkan needs the graphics driver",
        ),
        pytest.param(
            Accelerator.ROCM,
            host(docker(), amd(0), amd(1)),
            (1,),
            Devices(
                nodes=(HostPath("/dev/dri/renderD129"), KFD),
                group_add=GROUPS,
                environment={"HIP_VISIBLE_DEVICES": "0"},
            ),
            id="amd: the compute node and one render node",
        ),
        pytest.param(
            Accelerator.ROCM,
            host(docker("amd.com/gpu=0", "amd.com/gpu=1", "amd.com/gpu=all"), amd(0), amd(1)),
            (),
            Devices(
                cdi("amd.com/gpu=0", "amd.com/gpu=1"),
                group_add=GROUPS,
                environment={"HIP_VISIBLE_DEVICES": "0,1"},
            ),
            id="amd: CDI, still with the host's groups",
        ),
        pytest.param(
            Accelerator.ROCM,
            host(docker(rootless=True), amd(0)),
            (),
            Devices(
                nodes=(HostPath("/dev/dri/renderD128"), KFD),
                environment={"HIP_VISIBLE_DEVICES": "0"},
            ),
            id="amd: a rootless Docker has no groups of the host",
        ),
        pytest.param(
            Accelerator.VULKAN,
            host(docker(), amd(0), intel(1)),
            (),
            Devices(
                nodes=(
                    HostPath("/dev/dri/renderD128"),
                    KFD,
                    HostPath("/dev/dri/renderD129"),
                ),
                group_add=GROUPS,
            ),
            id="vulkan: cards of two vendors",
        ),
        pytest.param(
            Accelerator.VULKAN,
            host(NVIDIA_CDI, nvidia(0), intel(0)),
            (),
            Devices(
                cdi("nvidia.com/gpu=0"),
                nodes=(HostPath("/dev/dri/renderD128"),),
                group_add=GROUPS,
            ),
            id="vulkan: each vendor's own way",
        ),
        pytest.param(
            Accelerator.SYCL,
            host(docker(), intel(0)),
            (),
            Devices(
                nodes=(HostPath("/dev/dri/renderD128"),),
                group_add=GROUPS,
                environment={"ZE_AFFINITY_MASK": "0"},
            ),
            id="intel: render node",
        ),
        pytest.param(
            Accelerator.SYCL,
            host(docker("intel.com/gpu=0", "intel.com/gpu=1"), intel(0), intel(1)),
            (1,),
            Devices(
                cdi("intel.com/gpu=1"),
                group_add=GROUPS,
                environment={"ZE_AFFINITY_MASK": "0"},
            ),
            id="intel: CDI",
        ),
        pytest.param(
            Accelerator.CANN,
            host(docker("huawei.com/npu=4", "huawei.com/npu=5"), ascend(4), ascend(5)),
            (),
            Devices(
                cdi("huawei.com/npu=4", "huawei.com/npu=5"),
                group_add=GROUPS,
                environment={"ASCEND_RT_VISIBLE_DEVICES": "0,1", "NPU_VISIBLE_DEVICES": "0,1"},
            ),
            id="ascend: CDI, counted anew",
        ),
        pytest.param(
            Accelerator.CANN,
            host(docker(runtimes=("ascend",)), ascend(4), ascend(5)),
            (5,),
            Devices(
                environment={
                    "ASCEND_RT_VISIBLE_DEVICES": "0",
                    "NPU_VISIBLE_DEVICES": "0",
                    "ASCEND_VISIBLE_DEVICES": "5",
                },
                runtime="ascend",
            ),
            id="ascend: its runtime is told the host's number",
        ),
        pytest.param(
            Accelerator.MUSA,
            host(docker(runtimes=("mthreads",)), mthreads(0), mthreads(1)),
            (1,),
            Devices(
                environment={
                    "MUSA_VISIBLE_DEVICES": "0",
                    "CUDA_VISIBLE_DEVICES": "0",
                    "MTHREADS_VISIBLE_DEVICES": "1",
                },
                runtime="mthreads",
            ),
            id="musa: its runtime",
        ),
        pytest.param(Accelerator.CPU, host(docker(), nvidia(0)), (), NO_DEVICES, id="cpu"),
    ],
)
def test_granted(
    accelerator: Accelerator, here: HostFacts, indexes: tuple[int, ...], wanted: Devices
) -> None:
    assert granted(accelerator, here, *indexes) == wanted


def test_ascend_by_device_files() -> None:
    devices = granted(Accelerator.CANN, host(docker(), ascend(0), ascend(4)), 4)
    required = [node.path for node in devices.nodes if not node.optional]
    assert required == [
        "/dev/davinci4",
        "/dev/davinci_manager",
        "/dev/devmm_svm",
        "/dev/hisi_hdc",
    ]
    assert HostPath("/usr/local/Ascend/driver/lib64") in devices.mounts
    assert HostPath("/etc/hccl_rootinfo.json", optional=True) in devices.mounts
    assert devices.group_add == GROUPS


def test_optional_files_are_left_out_where_there_are_none() -> None:
    devices = Devices(
        nodes=(HostPath("/dev/a"), HostPath("/dev/b", optional=True)),
        mounts=(HostPath("/c", optional=True), HostPath("/d"), HostPath("/e", optional=True)),
    )
    there = devices.present({"/dev/b", "/e"}.__contains__)
    assert [node.path for node in there.nodes] == ["/dev/a", "/dev/b"]
    assert [mount.path for mount in there.mounts] == ["/d", "/e"]


def test_shared_memory_grows_with_the_gpus() -> None:
    here = host(NVIDIA_CDI, nvidia(0), nvidia(1))
    assert grant(Accelerator.CUDA, here.gpus, here, tensor_parallel=False).shm_size == 0
    assert grant(Accelerator.CUDA, here.gpus, here, tensor_parallel=True).shm_size == 3 * GIB


def test_intel_cards_that_work_together_find_their_neighbours() -> None:
    here = host(docker(), intel(0), intel(1))
    by_path = HostPath("/dev/dri/by-path", optional=True)
    assert by_path in grant(Accelerator.SYCL, here.gpus, here, tensor_parallel=True).mounts
    assert by_path not in grant(Accelerator.SYCL, here.gpus, here, tensor_parallel=False).mounts


def test_what_docker_cannot_give_is_refused() -> None:
    here = host(docker(), nvidia(0))
    with pytest.raises(Unsupported, match="cuda can't be had here") as caught:
        grant(Accelerator.CUDA, here.gpus, here, tensor_parallel=False)
    assert "nvidia-ctk" in caught.value.hint


def test_some_that_docker_cannot_give_are_refused() -> None:
    """One card can be had, so the accelerator can; but not both."""
    here = host(docker("nvidia.com/gpu=0"), nvidia(0), nvidia(1))
    with pytest.raises(Unsupported, match="just these GPUs"):
        grant(Accelerator.CUDA, here.gpus, here, tensor_parallel=False)


@pytest.mark.parametrize(
    ("accelerator", "gpus", "environment"),
    [
        (
            Accelerator.CUDA,
            (nvidia(0), nvidia(1), nvidia(2)),
            {"CUDA_VISIBLE_DEVICES": "1,2", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        ),
        (Accelerator.ROCM, (amd(0), amd(1), amd(2)), {"HIP_VISIBLE_DEVICES": "1,2"}),
        (
            Accelerator.SYCL,
            (intel(0), intel(1), intel(2)),
            {"ZE_AFFINITY_MASK": "1,2", "ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1"},
        ),
        (
            Accelerator.CANN,
            (ascend(0), ascend(1), ascend(2)),
            {"ASCEND_RT_VISIBLE_DEVICES": "1,2", "NPU_VISIBLE_DEVICES": "1,2"},
        ),
        (
            Accelerator.MUSA,
            (mthreads(0), mthreads(1), mthreads(2)),
            {"MUSA_VISIBLE_DEVICES": "1,2", "CUDA_VISIBLE_DEVICES": "1,2"},
        ),
    ],
)
def test_native_processes_count_as_the_host_does(
    accelerator: Accelerator, gpus: tuple[Gpu, ...], environment: dict[str, str]
) -> None:
    here = host(None, *gpus)
    assert grant_native(accelerator, gpus[1:], here) == Devices(environment=environment)
    assert grant_native(accelerator, gpus, here) == NO_DEVICES


def test_native_processes_know_slices_by_name() -> None:
    here = host(None, mig(0, "1"), mig(0, "2"))
    environment = grant_native(Accelerator.CUDA, here.gpus[1:], here).environment
    assert environment["CUDA_VISIBLE_DEVICES"] == "MIG-2"


def test_vulkan_outside_a_container_can_not_be_kept_to_some() -> None:
    here = host(None, amd(0), amd(1))
    assert grant_native(Accelerator.VULKAN, here.gpus, here) == NO_DEVICES
    with pytest.raises(Unsupported, match="order of its own"):
        grant_native(Accelerator.VULKAN, here.gpus[:1], here)
    assert grant_native(Accelerator.CPU, (), here) == NO_DEVICES
