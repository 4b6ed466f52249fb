"""From the chosen devices to what a container, or a native process, is given of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from runner.errors import Unsupported
from runner.hardware.devices import (
    RUNTIMES,
    Way,
    brings_all,
    cdi_ids,
    is_slice,
    missing,
    way_in,
)
from runner.hardware.gpu import Gpu, Vendor
from runner.hardware.host import HostFacts
from runner.launch.devicefiles import BY_PATH, COMMON_NODES, DRIVER_FILES, HostPath
from runner.names import Accelerator

GIB = 1 << 30

SHM_QUEUES = GIB
SHM_PER_GPU = GIB
"""Engines that spread a model over GPUs have a process for each, which speak through /dev/shm.
vLLM's queues take some hundred MB, and NCCL's and RCCL's buffers again some hundred per GPU where
the cards can't reach each other's memory. Docker's 64 MiB end in a bus error. It is a limit: what
is not written takes no memory."""

COMPUTE = (("gpu",),)
GRAPHICS = (("gpu", "compute", "utility", "graphics"),)
"""NVIDIA's toolkit leaves its Vulkan driver out of containers that don't ask for it."""

VISIBLE = {
    Accelerator.CUDA: ("CUDA_VISIBLE_DEVICES",),
    Accelerator.ROCM: ("HIP_VISIBLE_DEVICES",),
    Accelerator.SYCL: ("ZE_AFFINITY_MASK",),
    Accelerator.CANN: ("ASCEND_RT_VISIBLE_DEVICES", "NPU_VISIBLE_DEVICES"),
    Accelerator.MUSA: ("MUSA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
}
"""What the vendors' libraries look at. Vulkan has none: it sees what there is."""

BUS_ORDER = {
    Accelerator.CUDA: {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
    Accelerator.SYCL: {"ZE_ENABLE_PCI_ID_DEVICE_ORDER": "1"},
}
"""Has the libraries count as the vendors' tools do, instead of the quickest device first."""

RUNTIME_VARIABLES = {
    Vendor.ASCEND: "ASCEND_VISIBLE_DEVICES",
    Vendor.MTHREADS: "MTHREADS_VISIBLE_DEVICES",
}
"""What the vendors' own runtimes of Docker are told; NVIDIA's is told by the device request."""


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """A device that a driver of Docker's gives: `cdi`, or `nvidia` for what `--gpus` asks."""

    driver: str
    ids: tuple[str, ...]
    capabilities: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class Devices:
    """What an instance is given beyond a plain container.

    `nodes` are device files, read and written; `mounts` are read only. `group_add` are the host's
    own numbers of groups. `environment` is as the engine's libraries count, inside. `shm_size` is
    of /dev/shm, in bytes, 0 for Docker's own. Namespaces are never shared with the host.
    """

    device_requests: tuple[DeviceRequest, ...] = ()
    nodes: tuple[HostPath, ...] = ()
    group_add: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    runtime: str = ""
    mounts: tuple[HostPath, ...] = ()
    shm_size: int = 0

    def present(self, exists: Callable[[str], bool]) -> Devices:
        """Without the optional paths that the host does not have."""
        return replace(
            self,
            nodes=tuple(one for one in self.nodes if not one.optional or exists(one.path)),
            mounts=tuple(one for one in self.mounts if not one.optional or exists(one.path)),
        )


NO_DEVICES = Devices()


def grant(
    accelerator: Accelerator, gpus: Sequence[Gpu], host: HostFacts, *, tensor_parallel: bool
) -> Devices:
    """What a container needs to use just these devices with the accelerator's libraries.

    `tensor_parallel` says that several processes share the model and need room to speak.
    Raises Unsupported, with the next step, where the Docker Engine can't give them.
    """
    if accelerator is Accelerator.CPU or not gpus:
        return NO_DEVICES
    parts = [
        _granted(accelerator, vendor, own, host, tensor_parallel)
        for vendor in dict.fromkeys(gpu.vendor for gpu in gpus)
        if (own := [gpu for gpu in gpus if gpu.vendor is vendor])
    ]
    return Devices(
        device_requests=tuple(one for part in parts for one in part.device_requests),
        nodes=tuple(dict.fromkeys(one for part in parts for one in part.nodes)),
        group_add=tuple(dict.fromkeys(one for part in parts for one in part.group_add)),
        environment={name: value for part in parts for name, value in part.environment.items()},
        runtime=next((part.runtime for part in parts if part.runtime), ""),
        mounts=tuple(dict.fromkeys(one for part in parts for one in part.mounts)),
        shm_size=SHM_QUEUES + SHM_PER_GPU * len(gpus) if tensor_parallel else 0,
    )


def grant_native(accelerator: Accelerator, gpus: Sequence[Gpu], host: HostFacts) -> Devices:
    """What tells a native process of these devices alone, by the host's own numbers; nothing
    where they are all that there are.

    Raises Unsupported where the accelerator's library can't be told.
    """
    if accelerator is Accelerator.CPU or set(gpus) == set(host.gpus_for(accelerator)):
        return NO_DEVICES
    if accelerator not in VISIBLE:
        raise Unsupported(
            f"a native engine that uses {accelerator} can't be kept to some of the GPUs:"
            f" {accelerator} numbers them in an order of its own",
            hint="choose none of them, or have the engine in a container, which sees only those"
            " that it is given",
        )
    order = BUS_ORDER.get(accelerator, {})
    return Devices(environment=_visible(accelerator, _names(gpus)) | order)


def _granted(
    accelerator: Accelerator,
    vendor: Vendor,
    gpus: Sequence[Gpu],
    host: HostFacts,
    tensor_parallel: bool,
) -> Devices:
    match way_in(vendor, gpus, host):
        case Way.CDI:
            return _by_cdi(accelerator, vendor, gpus, host)
        case Way.RUNTIME:
            return _by_runtime(accelerator, vendor, gpus)
        case Way.NODES:
            by_path = (BY_PATH,) if vendor is Vendor.INTEL and tensor_parallel else ()
            return Devices(
                nodes=(*_own_nodes(gpus), *COMMON_NODES.get(vendor, ())),
                group_add=_groups(vendor, host),
                environment=_counted(accelerator, gpus),
                mounts=(*DRIVER_FILES.get(vendor, ()), *by_path),
            )
    raise _refusal(accelerator, host)


def _by_cdi(
    accelerator: Accelerator, vendor: Vendor, gpus: Sequence[Gpu], host: HostFacts
) -> Devices:
    ids = cdi_ids(vendor, gpus, host.docker)
    if brings_all(ids):
        # All are inside, and counted as on the host: the variable keeps the engine to its own.
        order = BUS_ORDER.get(accelerator, {}) if len(host.gpus) > 1 else {}
        environment = _visible(accelerator, _names(gpus)) | order
    else:
        environment = _counted(accelerator, gpus)
    return Devices(
        device_requests=(DeviceRequest("cdi", ids),),
        group_add=_groups(vendor, host),
        environment=environment,
    )


def _by_runtime(accelerator: Accelerator, vendor: Vendor, gpus: Sequence[Gpu]) -> Devices:
    environment = _counted(accelerator, gpus)
    if vendor is Vendor.NVIDIA:
        capabilities = GRAPHICS if accelerator is Accelerator.VULKAN else COMPUTE
        ids = tuple(gpu.uuid or str(gpu.index) for gpu in gpus)
        request = DeviceRequest("nvidia", ids, capabilities)
        # A Jetson's devices come by NVIDIA's runtime alone, elsewhere it changes nothing.
        return Devices((request,), environment=environment, runtime=RUNTIMES[vendor])
    numbers = ",".join(str(gpu.index) for gpu in gpus)
    return Devices(
        environment={**environment, RUNTIME_VARIABLES[vendor]: numbers}, runtime=RUNTIMES[vendor]
    )


def _own_nodes(gpus: Sequence[Gpu]) -> tuple[HostPath, ...]:
    return tuple(HostPath(node) for gpu in gpus for node in gpu.nodes)


def _groups(vendor: Vendor, host: HostFacts) -> tuple[int, ...]:
    """NVIDIA's device files are open to all. A rootless Docker knows no groups of the host: there
    the devices have to be open to its user (podman's keep-groups has no like in Docker)."""
    rootless = host.docker is not None and host.docker.rootless
    return () if rootless or vendor is Vendor.NVIDIA else host.groups


def _counted(accelerator: Accelerator, gpus: Sequence[Gpu]) -> dict[str, str]:
    """Inside, where nothing but these is to be seen, they are counted from 0."""
    order = BUS_ORDER.get(accelerator, {}) if len(gpus) > 1 else {}
    return _visible(accelerator, [str(number) for number in range(len(gpus))]) | order


def _names(gpus: Sequence[Gpu]) -> list[str]:
    """As the host counts. Slices of a card have only its number, and names of their own."""
    return [gpu.uuid if is_slice(gpu) else str(gpu.index) for gpu in gpus]


def _visible(accelerator: Accelerator, names: Sequence[str]) -> dict[str, str]:
    return dict.fromkeys(VISIBLE.get(accelerator, ()), ",".join(names))


def _refusal(accelerator: Accelerator, host: HostFacts) -> Unsupported:
    problem = missing(accelerator, host)
    if problem is not None:
        return problem.refusal(accelerator)
    return Unsupported(
        "Docker has no way to give just these GPUs to a container",
        hint="choose others, or all of one vendor",
    )
