"""What launcher tests share: a probe image, instances to start, and a Docker that is left clean."""

from __future__ import annotations

import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.dockerhost import DockerHost
from runner.engines.base import Command, Mode
from runner.launch.base import Folders, Identity, InstanceSpec
from runner.launch.docker import DockerLauncher
from runner.launch.labels import HOME
from tests.launch import images

if TYPE_CHECKING:
    from docker import DockerClient

MIB = 1 << 20

MakeSpec = Callable[..., InstanceSpec]
MakeLauncher = Callable[..., DockerLauncher]


@pytest.fixture(scope="session")
def probe_image(base_image: str) -> str:
    return images.probe_image(base_image)


@pytest.fixture(scope="module")
def module_folder(session_folder: Path) -> Iterator[Path]:
    yield from _new_folder(session_folder)


@pytest.fixture
def folder(session_folder: Path) -> Iterator[Path]:
    yield from _new_folder(session_folder)


def _new_folder(session_folder: Path) -> Iterator[Path]:
    """One with a short path, for sockets."""
    made = Path(tempfile.mkdtemp(dir=session_folder, prefix=""))
    yield made
    shutil.rmtree(made)


@pytest.fixture
def make_spec(folder: Path) -> MakeSpec:
    return spec_maker(folder)


def spec_maker(folder: Path) -> MakeSpec:
    """Instances that share the folder's model and cache; each call makes a new one."""
    model = folder / "model"
    model.mkdir()
    (model / "weights").write_text("weights")

    def make(program: str | tuple[str, ...], *arguments: str, memory: int = 256) -> InstanceSpec:
        instance = uuid.uuid4().hex[:12]
        return InstanceSpec(
            identity=Identity(
                instance=instance,
                engine="llama.cpp",
                variant="cpu",
                version="b1",
                model="sha256:" + "0" * 64,
                reference="localhost:5000/probe:1",
                mode=Mode.COMPLETION,
                configuration="c0ffee",
                context_size=4096,
            ),
            program=(program,) if isinstance(program, str) else program,
            command=Command(arguments, {"PROBE": "set"}),
            folders=Folders(model=model, run=folder / "i" / instance, cache=folder / "cache"),
            memory_bytes=memory * MIB,
        )

    return make


@pytest.fixture(scope="session")
def docker_host(docker_client: DockerClient) -> Iterator[DockerHost]:
    host = DockerHost()
    yield host
    host.close()


@pytest.fixture
def home_id(docker_client: DockerClient) -> Iterator[str]:
    """An own home; a test that leaves a container or network of it behind is told so."""
    identity = uuid.uuid4().hex[:12]
    yield identity
    label = f"{HOME}={identity}"
    containers = docker_client.containers.list(all=True, filters={"label": label})
    for container in containers:
        container.remove(force=True)
    networks = docker_client.networks.list(filters={"label": label})
    for network in networks:
        network.remove()
    assert [container.name for container in containers] == []
    assert [network.name for network in networks] == []


@pytest.fixture
def launcher(docker_host: DockerHost, home_id: str) -> DockerLauncher:
    """With a Unix socket per instance and no network."""
    return DockerLauncher(docker_host, home_id, publish_ports=False)


@pytest.fixture
def publishing(docker_host: DockerHost, home_id: str) -> DockerLauncher:
    """The way of Docker Desktop."""
    return DockerLauncher(docker_host, home_id, publish_ports=True)
