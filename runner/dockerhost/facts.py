"""What a Docker Engine says about itself."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONTAINERD_STORE = "io.containerd.snapshotter.v1"
CDI = "cdi"

ARCHITECTURES = {"x86_64": "amd64", "x64": "amd64", "aarch64": "arm64"}
"""Kernels' words for what OCI images call otherwise."""


@dataclass(frozen=True, slots=True)
class DockerFacts:
    """A Docker Engine, from `docker info`.

    `desktop`: it runs in a virtual machine (Docker Desktop, any Docker on macOS), so that Unix
    sockets in shared folders do not reach this host. `containerd_store`: images are kept by
    containerd, their IDs are manifest digests. `architecture` is the kernel's word for it.

    `runtimes` are the names that `--runtime` takes. `cdi`: it injects devices by CDI, `cdi_devices`
    those that it knows (nvidia.com/gpu=all). An engine that tells none (it has none, or is older
    than 28.3) leaves the folders of their specs in `cdi_folders`, empty for all others.
    """

    version: str
    rootless: bool
    desktop: bool
    containerd_store: bool
    memory_bytes: int
    architecture: str
    system: str = "linux"
    cpus: int = 1
    runtimes: frozenset[str] = frozenset()
    cdi: bool = False
    cdi_devices: tuple[str, ...] = ()
    cdi_folders: tuple[str, ...] = ()

    @property
    def platform(self) -> str:
        """Of containers, as OCI images say it: linux/amd64."""
        return f"{self.system}/{oci_architecture(self.architecture)}"


def oci_architecture(machine: str) -> str:
    """A kernel's word for its architecture as OCI images say it: x86_64 is amd64."""
    word = machine.lower()
    return ARCHITECTURES.get(word, word)


def docker_facts(info: Mapping[str, Any], platform: str = sys.platform) -> DockerFacts:
    """Reads the answer of `GET /info`; `platform` is the one this program runs on."""
    system = str(info.get("OperatingSystem", ""))
    security = info.get("SecurityOptions") or ()
    store = info.get("DriverStatus") or ()
    folders = tuple(map(str, info.get("CDISpecDirs") or ()))
    return DockerFacts(
        version=str(info["ServerVersion"]),
        rootless="name=rootless" in security,
        desktop=system == "Docker Desktop" or platform == "darwin",
        containerd_store=["driver-type", CONTAINERD_STORE] in [list(pair) for pair in store],
        memory_bytes=int(info["MemTotal"]),
        architecture=str(info["Architecture"]),
        system=str(info.get("OSType") or "linux"),
        cpus=int(info.get("NCPU") or 1),
        runtimes=frozenset(info.get("Runtimes") or ()),
        cdi=bool(folders),
        cdi_devices=_cdi_devices(info),
        cdi_folders=() if "DiscoveredDevices" in info else folders,
    )


def _cdi_devices(info: Mapping[str, Any]) -> tuple[str, ...]:
    devices = info.get("DiscoveredDevices") or ()
    return tuple(sorted(str(one["ID"]) for one in devices if one.get("Source") == CDI))
