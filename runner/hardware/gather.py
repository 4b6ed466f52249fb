"""Gathers the facts of a host: its vendors' devices, memory, processors, Docker."""

from __future__ import annotations

from dataclasses import replace

from runner.dockerhost.facts import DockerFacts, oci_architecture
from runner.hardware.amd import amd
from runner.hardware.apple import apple
from runner.hardware.ascend import ascend
from runner.hardware.cdi import device_names
from runner.hardware.cgroup import cpu_limit, memory_limit
from runner.hardware.host import HostFacts
from runner.hardware.intel import intel
from runner.hardware.mthreads import mthreads
from runner.hardware.nvidia import nvidia
from runner.hardware.probe import HostProbe, Probe

VENDORS = (nvidia, amd, intel, ascend, mthreads, apple)
GROUPS = ("render", "video")
NODES = ("/dev/kfd", "/dev/dri/renderD*", "/dev/davinci*")


def host_facts(docker: DockerFacts | None = None) -> HostFacts:
    """The facts of this machine. Runs the vendors' tools, each for some seconds at most."""
    return gather(HostProbe(), docker)


def gather(probe: Probe, docker: DockerFacts | None = None) -> HostFacts:
    """`docker` is what its engine says of itself, None where none answers. Nothing is raised: a
    tool that does not work leaves a trouble and no device."""
    platform = probe.platform()
    found = [look(probe) for look in VENDORS]
    return HostFacts(
        system=platform.system,
        architecture=oci_architecture(platform.machine),
        memory=min(platform.memory, memory_limit(probe) or platform.memory),
        cpus=min(platform.cpus, cpu_limit(probe) or platform.cpus),
        gpus=tuple(gpu for one in found for gpu in one.gpus),
        docker=_with_devices(probe, docker),
        groups=_groups(probe),
        troubles=tuple(trouble for one in found for trouble in one.troubles),
    )


def _with_devices(probe: Probe, docker: DockerFacts | None) -> DockerFacts | None:
    """Engines before 28.3 only tell where they look for CDI specs: so does this."""
    if docker is None or docker.desktop or not docker.cdi_folders:
        return docker
    return replace(docker, cdi_devices=device_names(probe, docker.cdi_folders))


def _groups(probe: Probe) -> tuple[int, ...]:
    """Both those of the usual names and those that the devices really belong to: systems differ."""
    named = [probe.group(name) for name in GROUPS]
    owners = [probe.owner(path) for pattern in NODES for path in probe.glob(pattern)]
    return tuple(sorted({group for group in (*named, *owners) if group}))
