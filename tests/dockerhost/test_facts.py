"""What `docker info` says of an engine; recorded answers, cut to what is read."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from runner.dockerhost import DockerFacts, DockerHost
from runner.dockerhost.facts import docker_facts, oci_architecture

LINUX = {
    "ServerVersion": "28.5.2",
    "OperatingSystem": "Debian GNU/Linux 12 (bookworm)",
    "SecurityOptions": ["name=seccomp,profile=builtin"],
    "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]],
    "MemTotal": 25276502016,
    "Architecture": "x86_64",
    "OSType": "linux",
    "NCPU": 2,
    "Runtimes": {"io.containerd.runc.v2": {"path": "runc"}, "runc": {"path": "runc"}},
    "CDISpecDirs": ["/etc/cdi", "/var/run/cdi"],
}
SPECS = Path("/etc/cdi")
DISCOVERY_S = 10
EXPECTED = DockerFacts(
    version="28.5.2",
    rootless=False,
    desktop=False,
    containerd_store=False,
    memory_bytes=25276502016,
    architecture="x86_64",
    system="linux",
    cpus=2,
    runtimes=frozenset({"io.containerd.runc.v2", "runc"}),
    cdi=True,
    cdi_folders=("/etc/cdi", "/var/run/cdi"),
)


def test_linux() -> None:
    assert docker_facts(LINUX, "linux") == EXPECTED


def test_rootless() -> None:
    info = {**LINUX, "SecurityOptions": ["name=seccomp,profile=builtin", "name=rootless"]}
    assert docker_facts(info, "linux") == replace(EXPECTED, rootless=True)


def test_docker_desktop() -> None:
    info = {**LINUX, "OperatingSystem": "Docker Desktop"}
    assert docker_facts(info, "linux").desktop


def test_every_docker_on_macos_is_in_a_virtual_machine() -> None:
    assert docker_facts(LINUX, "darwin").desktop


def test_the_containerd_store() -> None:
    status = [["driver-type", "io.containerd.snapshotter.v1"]]
    assert docker_facts({**LINUX, "DriverStatus": status}, "linux").containerd_store


def test_devices_that_the_engine_tells_of() -> None:
    devices = [
        {"Source": "cdi", "ID": "nvidia.com/gpu=all"},
        {"Source": "cdi", "ID": "nvidia.com/gpu=0"},
        {"Source": "other", "ID": "example.com/gpu=0"},
    ]
    facts = docker_facts({**LINUX, "DiscoveredDevices": devices}, "linux")
    assert facts.cdi_devices == ("nvidia.com/gpu=0", "nvidia.com/gpu=all")
    assert facts.cdi_folders == ()


@pytest.mark.parametrize("folders", [None, []])
def test_cdi_may_be_off(folders: list[str] | None) -> None:
    facts = docker_facts({**LINUX, "CDISpecDirs": folders}, "linux")
    assert (facts.cdi, facts.cdi_devices, facts.cdi_folders) == (False, (), ())


def test_an_engine_that_says_little() -> None:
    info = {key: LINUX[key] for key in ("ServerVersion", "MemTotal", "Architecture")}
    facts = docker_facts(info, "linux")
    assert (facts.cpus, facts.runtimes, facts.cdi) == (1, frozenset(), False)
    assert facts.platform == "linux/amd64"


@pytest.mark.parametrize(
    ("machine", "word"),
    [("x86_64", "amd64"), ("AMD64", "amd64"), ("aarch64", "arm64"), ("arm64", "arm64"),
     ("riscv64", "riscv64")],
)  # fmt: skip
def test_architectures_as_images_say_them(machine: str, word: str) -> None:
    assert oci_architecture(machine) == word
    assert docker_facts({**LINUX, "Architecture": machine}, "linux").platform == f"linux/{word}"


@pytest.mark.docker
def test_the_engine_that_answers() -> None:
    host = DockerHost()
    facts = host.facts()
    host.close()
    assert facts.memory_bytes > 0
    assert facts.version
    assert facts.cpus > 0
    assert "runc" in facts.runtimes


@pytest.fixture
def cdi_kind() -> Iterator[str]:
    """A vendor of stand-in devices whose spec the engine on this host finds."""
    kind = f"runner-test-{uuid.uuid4().hex[:8]}.com/gpu"
    spec = SPECS / f"{kind.partition('.')[0]}.yaml"
    made = not SPECS.exists()
    SPECS.mkdir(exist_ok=True)
    edits = "{env: [STAND_IN=1]}"
    spec.write_text(
        f"cdiVersion: 0.6.0\nkind: {kind}\ndevices:\n"
        f"- {{name: '0', containerEdits: {edits}}}\n- {{name: all, containerEdits: {edits}}}\n"
    )
    yield kind
    spec.unlink()
    if made:
        with suppress(OSError):  # another test may have put a spec beside it
            SPECS.rmdir()


@pytest.mark.docker
def test_the_engine_tells_of_devices_that_a_spec_describes(cdi_kind: str) -> None:
    host = DockerHost()
    wanted = (f"{cdi_kind}=0", f"{cdi_kind}=all")
    deadline = time.monotonic() + DISCOVERY_S
    while not set(wanted) <= set((facts := host.facts()).cdi_devices):
        assert time.monotonic() < deadline, facts
        time.sleep(0.1)
    host.close()
    assert facts.cdi
    assert facts.cdi_folders == ()
