"""What a graphics card, or another accelerator of its kind, is to the runner."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from runner.names import Accelerator


class Vendor(StrEnum):
    NVIDIA = "nvidia"
    AMD = "amd"
    INTEL = "intel"
    ASCEND = "ascend"
    MTHREADS = "mthreads"
    APPLE = "apple"


ACCELERATORS = {
    Vendor.NVIDIA: Accelerator.CUDA,
    Vendor.AMD: Accelerator.ROCM,
    Vendor.INTEL: Accelerator.SYCL,
    Vendor.ASCEND: Accelerator.CANN,
    Vendor.MTHREADS: Accelerator.MUSA,
    Vendor.APPLE: Accelerator.METAL,
}
"""What each vendor's own engines are built for; Vulkan runs on several."""

VULKAN = frozenset({Vendor.NVIDIA, Vendor.AMD, Vendor.INTEL})


@dataclass(frozen=True, slots=True)
class Gpu:
    """One device. What could not be found out is empty, or None for `memory`, in bytes.

    `index` is the vendor's own numbering, shared by the slices of one card; `uuid` its lasting
    name. `driver` is the version of the kernel driver (of macOS for Apple), `runtime` the newest
    version of the vendor's platform that it serves (CUDA 13.0, ROCm 7.1), `target` what kernels
    are compiled for (sm_89, gfx1100). `nodes` are the device files that belong to this one alone.
    `unified`: the memory is the host's own, shared with everything else that runs there.
    """

    vendor: Vendor
    index: int
    uuid: str = ""
    name: str = ""
    memory: int | None = None
    driver: str = ""
    runtime: str = ""
    target: str = ""
    nodes: tuple[str, ...] = ()
    unified: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What one vendor's tools said. `troubles` are sentences for a person: why a device that seems
    to be there can't be used, and the next step."""

    gpus: tuple[Gpu, ...] = ()
    troubles: tuple[str, ...] = ()
