"""What a container made by the launcher's own rules cannot do, and an ordinary one can.

Every probe runs twice: in an instance that the launcher starts, where it has to fail, and in a
control container without those rules, where it has to get through. A probe that failed in both
would prove nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from docker import DockerClient

from runner.dockerhost import DockerHost
from runner.launch.container import PIDS_LIMIT, container_name
from runner.launch.docker import DockerLauncher
from tests.launch.conftest import MakeSpec, spec_maker
from tests.launch.engines import await_line
from tests.launch.images import PROBE_FOLDER
from tests.launch.probe.greet import Greeter

pytestmark = pytest.mark.docker

PROBE = "/probe/probe.py"
GREETING_PORT = "8080"
SOCKET_IN_CONTROL = "/run/docker.sock"
TOO_MANY_THREADS = f"threads={PIDS_LIMIT + 100}"

OUTSIDE = "198.51.100.2"
"""An address of RFC 5737, in a network namespace that stands for the world outside."""

ORDINARY = (
    "connect={gateway}:{port}",
    "connect={other_gateway}:{port}",
    "resolve={name}",
    "write=/",
    "write=/usr/local",
    "write=/model",
    "execute_in=/tmp",
    "capabilities",
    "new_privileges",
    "root",
    "make_device=/tmp/null",
    f"unix_socket={SOCKET_IN_CONTROL}",
    "interfaces",
)
"""Get through in a container as `docker run` makes it, on a network, with Docker's socket."""

PRIVILEGED = (
    "connect=127.0.0.1:{port}",
    "connect={neighbour}:" + GREETING_PORT,
    "device=/dev/kmsg",
    "mount=/mnt",
)
"""Get through in a privileged container on this host's own network."""

PLAIN_USER = ("setuid=/usr/local/bin/id-as-root",)
"""Get through for a user without rights in a container as `docker run` makes it."""

Results = Mapping[str, str]
Probe = Callable[[Sequence[str]], Results]


@pytest.fixture(scope="module")
def launcher(docker_host: DockerHost) -> Iterator[DockerLauncher]:
    launcher = DockerLauncher(docker_host, uuid.uuid4().hex[:12], publish_ports=False)
    yield launcher
    assert launcher.find() == []


@pytest.fixture(scope="module")
def make_spec(module_folder: Path) -> MakeSpec:
    return spec_maker(module_folder)


@pytest.fixture(scope="module")
def confined(launcher: DockerLauncher, make_spec: MakeSpec, probe_image: str) -> Probe:
    def run(probes: Sequence[str]) -> Results:
        return run_confined(launcher, make_spec, probe_image, probes)

    return run


def run_confined(
    launcher: DockerLauncher, make_spec: MakeSpec, image: str, probes: Sequence[str]
) -> Results:
    spec = make_spec(image, PROBE, *probes, memory=1024)
    instance = spec.identity.instance
    launcher.start(spec)
    try:
        launcher.wait(instance)
        return read(*launcher.logs(instance, tail=1))
    finally:
        launcher.stop(instance, grace_s=0)


def read(line: str) -> Results:
    results: Results = json.loads(line)
    return results


# What there is to reach


@pytest.fixture(scope="module")
def names(
    docker_client: DockerClient, docker_host: DockerHost, module_folder: Path, probe_image: str
) -> Iterator[Mapping[str, str]]:
    """A service of this host on all its addresses, a network, and another engine's container."""
    name = f"runner-test-{uuid.uuid4().hex[:8]}"
    neighbours = DockerLauncher(docker_host, uuid.uuid4().hex[:12], publish_ports=True)
    with ExitStack() as stack:
        network = docker_client.networks.create(name, labels={"runner.test": "1"})
        stack.callback(network.remove)
        port = stack.enter_context(greeting())
        folder = module_folder / "neighbour"
        folder.mkdir()
        address = stack.enter_context(neighbour(neighbours, folder, probe_image, docker_client))
        yield {
            "name": name,
            "port": str(port),
            "gateway": gateway(docker_client, name),
            "other_gateway": gateway(docker_client, "bridge"),
            "neighbour": address,
        }


@contextmanager
def greeting() -> Iterator[int]:
    with Greeter("0.0.0.0", 0) as greeter:
        thread = threading.Thread(target=greeter.serve_forever)
        thread.start()
        yield greeter.port
        greeter.shutdown()
        thread.join()


@contextmanager
def neighbour(
    launcher: DockerLauncher, folder: Path, image: str, client: DockerClient
) -> Iterator[str]:
    spec = spec_maker(folder)(image, "/probe/greet.py", "0.0.0.0", GREETING_PORT)
    instance = spec.identity.instance
    launcher.start(spec)
    await_line(launcher, instance, GREETING_PORT)
    name = container_name(instance)
    networks = client.containers.get(name).attrs["NetworkSettings"]["Networks"]
    yield str(networks[name]["IPAddress"])
    launcher.stop(instance, grace_s=0)


def gateway(client: DockerClient, network: str) -> str:
    return str(client.networks.get(network).attrs["IPAM"]["Config"][0]["Gateway"])


# The controls


def control(
    client: DockerClient, image: str, probes: Sequence[str], **arguments: object
) -> Results:
    printed = client.containers.run(image, [PROBE, *probes], remove=True, **arguments)  # type: ignore[call-overload]
    return read(printed.decode())


@pytest.fixture(scope="module")
def controls(
    docker_client: DockerClient,
    docker_host: DockerHost,
    probe_image: str,
    names: Mapping[str, str],
    module_folder: Path,
) -> Results:
    model = module_folder / "control-model"
    model.mkdir()
    mounts = {
        str(model): {"bind": "/model", "mode": "rw"},
        urlsplit(docker_host.url).path: {"bind": SOCKET_IN_CONTROL, "mode": "rw"},
    }
    ordinary = control(
        docker_client,
        probe_image,
        [probe.format(**names) for probe in ORDINARY],
        name=names["name"],
        network=names["name"],
        user="0",
        volumes=mounts,
    )
    privileged = control(
        docker_client,
        probe_image,
        [probe.format(**names) for probe in PRIVILEGED],
        network_mode="host",
        privileged=True,
        user="0",
    )
    plain = control(docker_client, probe_image, PLAIN_USER, user="10001")
    return {**ordinary, **privileged, **plain}


@pytest.fixture(scope="module")
def denials(confined: Probe, names: Mapping[str, str]) -> Results:
    return confined([probe.format(**names) for probe in (*ORDINARY, *PRIVILEGED, *PLAIN_USER)])


@pytest.mark.parametrize("probe", [*ORDINARY, *PRIVILEGED, *PLAIN_USER])
def test_is_denied_and_works_without_the_rules(
    probe: str, denials: Results, controls: Results, names: Mapping[str, str]
) -> None:
    named = probe.format(**names)
    assert denials[named].startswith("no: ")
    assert controls[named] == "yes"


def test_what_an_engine_needs_is_allowed(confined: Probe) -> None:
    probes = ("write=/cache", "write=/run/engine", "write=/tmp")
    assert confined(probes) == dict.fromkeys(probes, "yes")


def test_memory_is_limited(
    launcher: DockerLauncher, make_spec: MakeSpec, probe_image: str, docker_client: DockerClient
) -> None:
    spec = make_spec(probe_image, PROBE, "allocate=256", memory=64)
    launcher.start(spec)
    ended = launcher.wait(spec.identity.instance)
    launcher.stop(spec.identity.instance, grace_s=0)
    assert (ended.code, ended.out_of_memory) == (-9, True)
    assert control(docker_client, probe_image, ["allocate=256"]) == {"allocate=256": "yes"}


def test_processes_are_limited(
    confined: Probe, docker_client: DockerClient, probe_image: str
) -> None:
    assert confined([TOO_MANY_THREADS])[TOO_MANY_THREADS].startswith("no: RuntimeError")
    assert control(docker_client, probe_image, [TOO_MANY_THREADS])[TOO_MANY_THREADS] == "yes"


# The way of Docker Desktop


@pytest.fixture(scope="module")
def outside() -> Iterator[str]:
    """A service that only translated addresses get an answer from, as on the internet."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and the `ip` command to make a network namespace")
    space = f"rt{uuid.uuid4().hex[:8]}"
    with ExitStack() as stack:
        ip("netns", "add", space)
        stack.callback(ip, "netns", "delete", space)
        ip("link", "add", f"{space}a", "type", "veth", "peer", "name", f"{space}b", "netns", space)
        ip("address", "add", "198.51.100.1/30", "dev", f"{space}a")
        ip("link", "set", f"{space}a", "up")
        ip("-n", space, "address", "add", f"{OUTSIDE}/30", "dev", f"{space}b")
        ip("-n", space, "link", "set", f"{space}b", "up")
        program = [sys.executable, str(PROBE_FOLDER / "greet.py"), OUTSIDE]
        greeter = subprocess.Popen(
            ["ip", "netns", "exec", space, *program], stdout=subprocess.PIPE, text=True
        )
        with greeter:
            stack.callback(greeter.terminate)
            assert greeter.stdout is not None
            port = greeter.stdout.readline().strip()
            yield f"connect={OUTSIDE}:{port}"
            greeter.terminate()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@pytest.fixture(scope="module")
def publishing(docker_host: DockerHost) -> Iterator[DockerLauncher]:
    launcher = DockerLauncher(docker_host, uuid.uuid4().hex[:12], publish_ports=True)
    yield launcher
    assert launcher.find() == []


def test_a_published_engine_has_no_neighbours_and_no_names(
    publishing: DockerLauncher,
    make_spec: MakeSpec,
    probe_image: str,
    names: Mapping[str, str],
    controls: Results,
) -> None:
    probes = [f"connect={names['neighbour']}:{GREETING_PORT}", f"resolve={names['name']}"]
    denied = run_confined(publishing, make_spec, probe_image, probes)
    assert [denied[probe][:4] for probe in probes] == ["no: ", "no: "]
    assert [controls[probe] for probe in probes] == ["yes", "yes"]


def test_a_published_engine_does_not_reach_the_world(
    publishing: DockerLauncher,
    make_spec: MakeSpec,
    probe_image: str,
    outside: str,
    docker_client: DockerClient,
) -> None:
    denied = run_confined(publishing, make_spec, probe_image, [outside])
    assert denied[outside].startswith("no: ")
    assert control(docker_client, probe_image, [outside])[outside] == "yes"
