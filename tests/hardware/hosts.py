"""Recorded machines: what was asked of each (`probes/`), and the facts of four whole hosts with
their Docker Engines (`recordings/`).

`python -m tests.hardware.hosts` gathers the four anew from the first; a test holds them equal.
"""

from __future__ import annotations

from pathlib import Path

from runner.dockerhost.facts import DockerFacts, docker_facts
from runner.hardware import recorded
from runner.hardware.gather import gather
from runner.hardware.host import HostFacts, from_json, to_json
from runner.hardware.recorded import RecordedProbe

PROBES = Path(__file__).parent / "probes"
RECORDINGS = Path(__file__).parent / "recordings"

INFOS: dict[str, dict[str, object]] = {
    "nvidia": {
        "ServerVersion": "28.5.1",
        "OSType": "linux",
        "OperatingSystem": "Ubuntu 24.04.3 LTS",
        "Architecture": "x86_64",
        "NCPU": 32,
        "MemTotal": 67258044416,
        "SecurityOptions": ["name=apparmor", "name=seccomp,profile=builtin", "name=cgroupns"],
        "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]],
        "Runtimes": {"io.containerd.runc.v2": {}, "nvidia": {}, "runc": {}},
        "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
        "DiscoveredDevices": [
            {"Source": "cdi", "ID": "nvidia.com/gpu=0"},
            {"Source": "cdi", "ID": "nvidia.com/gpu=GPU-1e0d8a2e-6c1c-0f55-8b4a-2d6f4f1f9a37"},
            {"Source": "cdi", "ID": "nvidia.com/gpu=all"},
        ],
    },
    "amd": {
        "ServerVersion": "27.5.1",
        "OSType": "linux",
        "OperatingSystem": "Fedora Linux 41 (Server Edition)",
        "Architecture": "x86_64",
        "NCPU": 32,
        "MemTotal": 67258044416,
        "SecurityOptions": ["name=seccomp,profile=builtin", "name=cgroupns"],
        "DriverStatus": [["Backing Filesystem", "xfs"], ["Supports d_type", "true"]],
        "Runtimes": {"io.containerd.runc.v2": {}, "runc": {}},
        "CDISpecDirs": [],
    },
    "mac": {
        "ServerVersion": "28.5.1",
        "OSType": "linux",
        "OperatingSystem": "Docker Desktop",
        "Architecture": "aarch64",
        "NCPU": 16,
        "MemTotal": 8321531904,
        "SecurityOptions": ["name=seccomp,profile=unconfined", "name=cgroupns"],
        "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
        "Runtimes": {"io.containerd.runc.v2": {}, "runc": {}},
        "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
        "DiscoveredDevices": [{"Source": "cdi", "ID": "docker.com/gpu=webgpu"}],
    },
    "cpu": {
        "ServerVersion": "28.5.2+dfsg4",
        "OSType": "linux",
        "OperatingSystem": "Debian GNU/Linux 12 (bookworm)",
        "Architecture": "x86_64",
        "NCPU": 2,
        "MemTotal": 25276510208,
        "SecurityOptions": ["name=seccomp,profile=builtin"],
        "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]],
        "Runtimes": {"io.containerd.runc.v2": {}, "runc": {}},
        "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
    },
}

MACHINES = {
    "nvidia": "rtx-4090",
    "amd": "rx-7900-xtx",
    "mac": "m3-max",
    "cpu": "virtual-machine",
}
"""The probe that each of the four hosts is made from."""


def probe_names() -> list[str]:
    return sorted(path.stem for path in PROBES.glob("*.json"))


def probe(name: str) -> RecordedProbe:
    return RecordedProbe(recorded.from_json((PROBES / f"{name}.json").read_bytes()))


def docker(name: str) -> DockerFacts:
    """Of one of the four hosts."""
    return docker_facts(INFOS[name], "darwin" if name == "mac" else "linux")


def gathered(name: str) -> HostFacts:
    return gather(probe(MACHINES[name]), docker(name))


def recorded_host(name: str) -> HostFacts:
    """The facts of nvidia, amd, mac or cpu, as a user would hand them in."""
    return from_json((RECORDINGS / f"{name}.json").read_bytes())


if __name__ == "__main__":
    for host in MACHINES:
        (RECORDINGS / f"{host}.json").write_text(to_json(gathered(host)), encoding="utf-8")
