"""What `docker info` says of an engine; recorded answers, cut to what is read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from runner.dockerhost import DockerFacts, DockerHost
from runner.dockerhost.facts import docker_facts

LINUX = {
    "ServerVersion": "28.5.2",
    "OperatingSystem": "Debian GNU/Linux 12 (bookworm)",
    "SecurityOptions": ["name=seccomp,profile=builtin"],
    "DriverStatus": [["Backing Filesystem", "extfs"], ["Supports d_type", "true"]],
    "MemTotal": 25276502016,
    "Architecture": "x86_64",
}
EXPECTED = DockerFacts(
    version="28.5.2",
    rootless=False,
    desktop=False,
    containerd_store=False,
    memory_bytes=25276502016,
    architecture="x86_64",
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


@pytest.mark.docker
def test_the_engine_that_answers() -> None:
    host = DockerHost()
    facts = host.facts()
    host.close()
    assert facts.memory_bytes > 0
    assert facts.version
