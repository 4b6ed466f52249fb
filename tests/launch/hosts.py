"""Hosts with GPUs, as facts: for what is decided on them without any."""

from __future__ import annotations

from runner.dockerhost.facts import DockerFacts
from runner.hardware.gpu import Gpu, Vendor
from runner.hardware.host import HostFacts

GROUPS = (44, 992)


def docker(
    *cdi_devices: str,
    runtimes: tuple[str, ...] = (),
    cdi: bool = True,
    desktop: bool = False,
    rootless: bool = False,
) -> DockerFacts:
    return DockerFacts(
        version="28.5.2",
        rootless=rootless,
        desktop=desktop,
        containerd_store=False,
        memory_bytes=1 << 36,
        architecture="x86_64",
        runtimes=frozenset({"runc", *runtimes}),
        cdi_devices=cdi_devices,
        cdi=cdi,
    )


def host(docker: DockerFacts | None, *gpus: Gpu) -> HostFacts:
    return HostFacts("linux", "amd64", 1 << 36, gpus=gpus, docker=docker, groups=GROUPS)


def nvidia(index: int) -> Gpu:
    return Gpu(
        Vendor.NVIDIA,
        index,
        uuid=f"GPU-{index}a2b",
        name="RTX 4090",
        nodes=(f"/dev/nvidia{index}",),
    )


def mig(index: int, name: str) -> Gpu:
    """A slice of a card."""
    return Gpu(Vendor.NVIDIA, index, uuid=f"MIG-{name}", name="A100 MIG 3g.20gb")


def amd(index: int) -> Gpu:
    nodes = (f"/dev/dri/renderD{128 + index}",)
    return Gpu(Vendor.AMD, index, uuid=f"{index}f3c", name="RX 7900 XTX", nodes=nodes)


def intel(index: int) -> Gpu:
    nodes = (f"/dev/dri/renderD{128 + index}",)
    return Gpu(Vendor.INTEL, index, name="Arc B580", nodes=nodes)


def ascend(index: int) -> Gpu:
    return Gpu(Vendor.ASCEND, index, name="910B", nodes=(f"/dev/davinci{index}",))


def mthreads(index: int) -> Gpu:
    return Gpu(Vendor.MTHREADS, index, uuid=f"mt-{index}", name="MTT S4000")


APPLE = Gpu(Vendor.APPLE, 0, name="M3 Max")
