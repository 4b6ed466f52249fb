"""What people are told to type makes the very container that the launcher makes."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from docker import DockerClient

from runner.engines.base import Command
from runner.launch.base import InstanceSpec
from runner.launch.container import create_arguments
from runner.launch.devicefiles import HostPath
from runner.launch.devices import DeviceRequest, Devices
from runner.launch.rendered import docker_run
from tests.launch.conftest import MIB, MakeSpec

DEVICES = Devices(
    device_requests=(DeviceRequest("cdi", ("nvidia.com/gpu=0", "nvidia.com/gpu=1")),),
    nodes=(HostPath("/dev/kmsg"),),
    group_add=(44, 992),
    environment={"CUDA_VISIBLE_DEVICES": "0,1"},
    runtime="runc",
    shm_size=128 * MIB,
)
GPUS = Devices((DeviceRequest("nvidia", ("GPU-1", "GPU-2"), (("gpu", "compute"),)),))

FOR_THE_DAEMON = {"LogConfig"}
CLIENTS_OWN = {"ConsoleSize", "AutoRemove", "PidsLimit", "DnsOptions", "DnsSearch"}
"""What `docker` fills in where the SDK leaves it out; PidsLimit is looked at by itself."""


def words(spec: InstanceSpec, network: str | None = None) -> tuple[str, ...]:
    return docker_run(create_arguments(spec, home_id="home", user="1:1", network=network))


@pytest.mark.docker
@pytest.mark.parametrize("network", [None, "bridge"])
@pytest.mark.parametrize("devices", [Devices(), DEVICES, GPUS])
def test_typed_it_makes_the_same(
    devices: Devices,
    network: str | None,
    make_spec: MakeSpec,
    probe_image: str,
    docker_client: DockerClient,
) -> None:
    """Containers that are made only: Docker looks for devices when it starts one."""
    spec = replace(make_spec(probe_image, "/probe/probe.py", "root"), devices=devices)
    arguments = create_arguments(spec, home_id="home", user="10001:10001", network=network)
    spec.folders.run.mkdir(parents=True)
    spec.folders.cache.mkdir()
    _, _, *options = docker_run(arguments)
    typed = subprocess.run(
        ["docker", "create", *options], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    ours = docker_client.containers.create(**arguments)
    try:
        assert facts(docker_client, typed) == facts(docker_client, str(ours.id))
    finally:
        ours.remove()
        docker_client.containers.get(typed).remove()


def facts(client: DockerClient, container: str) -> Mapping[str, Any]:
    """All that Docker keeps of how a container is run."""
    found = client.api.inspect_container(container)
    host = {
        name: normal(name, value)
        for name, value in found["HostConfig"].items()
        if name not in FOR_THE_DAEMON | CLIENTS_OWN
    }
    config = found["Config"]
    own = {name: config[name] for name in ("Cmd", "Entrypoint", "Image", "User")}
    environment = sorted(config["Env"])
    return {**host, **own, "Env": environment, "Pids": found["HostConfig"]["PidsLimit"]}


def normal(name: str, value: object) -> object:
    """Nothing may be null, empty or left out."""
    if not value:
        return None
    if name == "DeviceRequests" and isinstance(value, list):
        return requests(value)
    if name == "Mounts" and isinstance(value, list):
        return sorted(
            (mount["Source"], mount["Target"], mount.get("ReadOnly", False)) for mount in value
        )
    if name == "PortBindings" and isinstance(value, dict):
        return {
            port: [(one["HostIp"], one["HostPort"] or "0") for one in bound]
            for port, bound in value.items()
        }
    return value


def requests(found: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """By device: `--device` makes a request for each."""
    return {
        ("cdi" if one["Driver"] == "cdi" else "gpus", name)
        for one in found
        for name in one["DeviceIDs"]
    }


def test_gpus_as_the_flag_takes_them(make_spec: MakeSpec) -> None:
    typed = words(replace(make_spec("image"), devices=GPUS))
    assert typed[typed.index("--gpus") + 1] == '"device=GPU-1,GPU-2","capabilities=gpu,compute"'
    simple = Devices((DeviceRequest("nvidia", ("GPU-1",), (("gpu",),)),))
    typed = words(replace(make_spec("image"), devices=simple))
    assert typed[typed.index("--gpus") + 1] == '"device=GPU-1"'


def test_secrets_are_not_shown(make_spec: MakeSpec) -> None:
    spec = make_spec("image")
    command = Command((), {"SOME_TOKEN": "very secret", "PLAIN": "seen"})
    typed = " ".join(words(replace(spec, command=command)))
    assert "very secret" not in typed
    assert "PLAIN=seen" in typed
