"""What a Docker Engine says about itself."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CONTAINERD_STORE = "io.containerd.snapshotter.v1"


@dataclass(frozen=True, slots=True)
class DockerFacts:
    """A Docker Engine, from `docker info`.

    `desktop`: it runs in a virtual machine (Docker Desktop, any Docker on macOS), so that Unix
    sockets in shared folders do not reach this host. `containerd_store`: images are kept by
    containerd, their IDs are manifest digests.
    """

    version: str
    rootless: bool
    desktop: bool
    containerd_store: bool
    memory_bytes: int
    architecture: str


def docker_facts(info: Mapping[str, Any], platform: str = sys.platform) -> DockerFacts:
    """Reads the answer of `GET /info`; `platform` is the one this program runs on."""
    system = str(info.get("OperatingSystem", ""))
    security = info.get("SecurityOptions") or ()
    store = info.get("DriverStatus") or ()
    return DockerFacts(
        version=str(info["ServerVersion"]),
        rootless="name=rootless" in security,
        desktop=system == "Docker Desktop" or platform == "darwin",
        containerd_store=["driver-type", CONTAINERD_STORE] in [list(pair) for pair in store],
        memory_bytes=int(info["MemTotal"]),
        architecture=str(info["Architecture"]),
    )
