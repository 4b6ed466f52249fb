"""The life of containers: start, end, adoption, and that nothing stays behind."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from docker import DockerClient
from docker.errors import NotFound as NoSuchContainer

from runner.dockerhost import DockerHost
from runner.engines.base import TcpEndpoint, UnixEndpoint
from runner.errors import (
    BadSettings,
    Conflict,
    EngineFailed,
    EngineNotInstalled,
    RunnerError,
)
from runner.launch.base import Exit, InstanceSpec, Running
from runner.launch.container import container_name
from runner.launch.docker import DockerLauncher
from tests.launch.conftest import MakeSpec
from tests.launch.engines import ask, await_line, kill

pytestmark = pytest.mark.docker

SERVE = "/probe/serve.py"
SOCKET = ("--host", "/run/engine/engine.sock")
PORT = ("--host", "0.0.0.0", "--port", "8080")


@pytest.fixture
def serving(make_spec: MakeSpec, probe_image: str) -> InstanceSpec:
    return make_spec(probe_image, SERVE, *SOCKET)


@pytest.fixture
def publishing_spec(make_spec: MakeSpec, probe_image: str) -> InstanceSpec:
    return make_spec(probe_image, SERVE, *PORT)


def name_of(spec: InstanceSpec) -> str:
    return spec.identity.instance


def exists(client: DockerClient, spec: InstanceSpec) -> bool:
    try:
        client.containers.get(container_name(name_of(spec)))
    except NoSuchContainer:
        return False
    return True


def assert_nothing_left(client: DockerClient, spec: InstanceSpec) -> None:
    assert not exists(client, spec)
    assert client.networks.list(names=[container_name(name_of(spec))]) == []
    assert not spec.folders.run.exists()


def test_serves_on_a_socket(launcher: DockerLauncher, serving: InstanceSpec) -> None:
    assert str(launcher.view(serving.folders).listen) == f"unix:{SOCKET[1]}"
    endpoint = launcher.start(serving)
    assert endpoint == UnixEndpoint(str(serving.folders.run / "engine.sock"))
    await_line(launcher, name_of(serving))
    told = ask(endpoint)
    assert told.env["PROBE"] == "set"
    assert told.env["HOME"] == told.env["XDG_CACHE_HOME"] == "/cache"
    assert told.uid != 0 or launcher._facts.rootless
    assert launcher.logs(name_of(serving), tail=5) == ("serving",)
    launcher.stop(name_of(serving), grace_s=5)


def test_a_stop_ends_waits_and_leaves_nothing(
    launcher: DockerLauncher, serving: InstanceSpec, docker_client: DockerClient
) -> None:
    launcher.start(serving)
    await_line(launcher, name_of(serving))
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(launcher.wait, name_of(serving))
        launcher.stop(name_of(serving), grace_s=5)
        assert ended.result(timeout=20) == Exit(0)
    assert_nothing_left(docker_client, serving)
    assert serving.folders.cache.is_dir()


def test_an_engine_that_does_not_listen_is_killed(
    launcher: DockerLauncher, make_spec: MakeSpec, probe_image: str
) -> None:
    stubborn = make_spec(probe_image, SERVE, *SOCKET, "--ignore-sigterm")
    launcher.start(stubborn)
    await_line(launcher, name_of(stubborn))
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(launcher.wait, name_of(stubborn))
        launcher.stop(name_of(stubborn), grace_s=0.5)
        assert ended.result(timeout=20) == Exit(-9)


def test_a_death_leaves_its_last_words(
    launcher: DockerLauncher, serving: InstanceSpec, docker_client: DockerClient
) -> None:
    endpoint = launcher.start(serving)
    await_line(launcher, name_of(serving))
    kill(endpoint)
    assert launcher.wait(name_of(serving)) == Exit(7)
    assert launcher.logs(name_of(serving), tail=1) == ("last words",)
    launcher.stop(name_of(serving), grace_s=5)
    assert_nothing_left(docker_client, serving)


def test_one_that_is_gone_has_ended(launcher: DockerLauncher) -> None:
    assert launcher.wait("nosuch") == Exit(0)
    assert launcher.logs("nosuch", tail=5) == ()
    assert list(launcher.follow("nosuch", tail=5)) == []
    launcher.stop("nosuch", grace_s=1)


def test_running_out_of_memory_is_told(
    launcher: DockerLauncher, make_spec: MakeSpec, probe_image: str
) -> None:
    greedy = make_spec(probe_image, "/probe/probe.py", "allocate=256", memory=64)
    launcher.start(greedy)
    assert launcher.wait(name_of(greedy)).out_of_memory
    launcher.stop(name_of(greedy), grace_s=0)


def test_a_followed_log_ends_with_its_instance(
    launcher: DockerLauncher, serving: InstanceSpec
) -> None:
    endpoint = launcher.start(serving)
    lines = launcher.follow(name_of(serving), tail=10)
    assert next(lines) == "serving"
    ask(endpoint, "/say/something")
    assert next(lines) == "something"
    launcher.stop(name_of(serving), grace_s=5)
    assert list(lines) == []


def test_a_followed_log_can_be_closed(launcher: DockerLauncher, serving: InstanceSpec) -> None:
    launcher.start(serving)
    lines = launcher.follow(name_of(serving), tail=10)
    assert next(lines) == "serving"
    waiting = threading.Event()

    def read() -> list[str]:
        waiting.set()
        return list(lines)

    with ThreadPoolExecutor(1) as pool:
        rest = pool.submit(read)
        waiting.wait()
        lines.close()
        assert rest.result(timeout=20) == []
    launcher.stop(name_of(serving), grace_s=5)


def test_the_cache_survives(
    launcher: DockerLauncher, make_spec: MakeSpec, probe_image: str
) -> None:
    for starts in (1, 2):
        spec = make_spec(probe_image, SERVE, *SOCKET)
        endpoint = launcher.start(spec)
        await_line(launcher, name_of(spec))
        assert ask(endpoint).starts == starts
        launcher.stop(name_of(spec), grace_s=5)


# Adoption


def test_a_later_launcher_adopts(
    launcher: DockerLauncher, serving: InstanceSpec, docker_host: DockerHost, home_id: str
) -> None:
    endpoint = launcher.start(serving)
    await_line(launcher, name_of(serving))
    later = DockerLauncher(docker_host, home_id, publish_ports=False)
    assert later.find() == [Running(serving.identity, endpoint, serving.folders)]
    assert ask(endpoint).starts == 1
    later.stop(name_of(serving), grace_s=5)
    assert later.find() == []


def test_two_homes_do_not_see_each_other(
    launcher: DockerLauncher,
    serving: InstanceSpec,
    docker_host: DockerHost,
    docker_client: DockerClient,
) -> None:
    endpoint = launcher.start(serving)
    await_line(launcher, name_of(serving))
    other = DockerLauncher(docker_host, "another-home", publish_ports=False)
    assert other.find() == []
    other.stop(name_of(serving), grace_s=0)
    assert other.logs(name_of(serving), tail=5) == ()
    assert other.wait(name_of(serving)) == Exit(0)
    elsewhere = replace(serving.folders, run=serving.folders.run.parent / "other")
    with pytest.raises(Conflict):
        other.start(replace(serving, folders=elsewhere))
    assert not elsewhere.run.exists()
    assert ask(endpoint).starts == 1
    launcher.stop(name_of(serving), grace_s=5)
    assert_nothing_left(docker_client, serving)


def test_ended_ones_are_removed_not_adopted(
    launcher: DockerLauncher, serving: InstanceSpec, docker_client: DockerClient
) -> None:
    endpoint = launcher.start(serving)
    await_line(launcher, name_of(serving))
    kill(endpoint)
    launcher.wait(name_of(serving))
    assert launcher.find() == []
    assert_nothing_left(docker_client, serving)


# The way of Docker Desktop


def test_publishes_a_port_on_loopback(
    publishing: DockerLauncher,
    publishing_spec: InstanceSpec,
    docker_host: DockerHost,
    docker_client: DockerClient,
    home_id: str,
) -> None:
    assert publishing.view(publishing_spec.folders).listen == TcpEndpoint("0.0.0.0", 8080)
    endpoint = publishing.start(publishing_spec)
    assert isinstance(endpoint, TcpEndpoint)
    assert endpoint.host == "127.0.0.1"
    await_line(publishing, name_of(publishing_spec))
    assert ask(endpoint).starts == 1
    container = docker_client.containers.get(container_name(name_of(publishing_spec)))
    published = container.attrs["NetworkSettings"]["Ports"]["8080/tcp"]
    assert [port["HostIp"] for port in published] == ["127.0.0.1"]
    later = DockerLauncher(docker_host, home_id, publish_ports=False)
    assert [running.endpoint for running in later.find()] == [endpoint]
    later.stop(name_of(publishing_spec), grace_s=5)
    assert_nothing_left(docker_client, publishing_spec)


def test_an_engine_that_needs_a_port_has_it_on_linux_too(
    launcher: DockerLauncher,
    serving: InstanceSpec,
    publishing_spec: InstanceSpec,
    docker_host: DockerHost,
    docker_client: DockerClient,
    home_id: str,
) -> None:
    """Beside one with a socket; a later launcher adopts both."""
    listen = launcher.view(publishing_spec.folders, tcp=True).listen
    assert listen == TcpEndpoint("0.0.0.0", 8080)
    port = replace(publishing_spec, listen=listen)
    endpoints = {name_of(spec): launcher.start(spec) for spec in (serving, port)}
    assert isinstance(endpoints[name_of(serving)], UnixEndpoint)
    assert isinstance(endpoints[name_of(port)], TcpEndpoint)
    await_line(launcher, name_of(port))
    assert ask(endpoints[name_of(port)]).env["PROBE"] == "set"
    later = DockerLauncher(docker_host, home_id, publish_ports=False)
    found = {running.identity.instance: running.endpoint for running in later.find()}
    assert found == endpoints
    for spec in (serving, port):
        later.stop(name_of(spec), grace_s=5)
        assert_nothing_left(docker_client, spec)


def test_an_image_of_another_user_runs_as_ours(
    launcher: DockerLauncher, make_spec: MakeSpec, probe_image: str, docker_client: DockerClient
) -> None:
    dockerfile = f"FROM {probe_image}\nUSER 0:0\n"
    image, _ = docker_client.images.build(fileobj=io.BytesIO(dockerfile.encode()), rm=True)
    assert image.id is not None
    spec = make_spec(image.id, SERVE, *SOCKET)
    try:
        endpoint = launcher.start(spec)
        await_line(launcher, name_of(spec))
        assert ask(endpoint).uid != 0 or launcher._facts.rootless
        launcher.stop(name_of(spec), grace_s=5)
    finally:
        docker_client.images.remove(image.id, force=True)


def test_a_network_without_its_instance_is_removed(
    publishing: DockerLauncher, publishing_spec: InstanceSpec, docker_client: DockerClient
) -> None:
    publishing.start(publishing_spec)
    docker_client.containers.get(container_name(name_of(publishing_spec))).remove(force=True)
    assert publishing.find() == []
    assert docker_client.networks.list(names=[container_name(name_of(publishing_spec))]) == []


# Failed starts


@pytest.fixture
def unmountable_image(probe_image: str, docker_client: DockerClient) -> Iterator[str]:
    """/model is a file in it, so that Docker creates the container and can't start it."""
    dockerfile = f"FROM {probe_image}\nUSER 0\nRUN touch /model\n"
    image, _ = docker_client.images.build(fileobj=io.BytesIO(dockerfile.encode()), rm=True)
    assert image.id is not None
    yield image.id
    docker_client.images.remove(image.id)


@pytest.mark.parametrize("way", ["launcher", "publishing"])
def test_a_failed_start_leaves_nothing(
    way: str,
    request: pytest.FixtureRequest,
    make_spec: MakeSpec,
    unmountable_image: str,
    docker_client: DockerClient,
) -> None:
    launcher: DockerLauncher = request.getfixturevalue(way)
    spec = make_spec(unmountable_image, SERVE, *SOCKET)
    with pytest.raises(EngineFailed, match="did not start"):
        launcher.start(spec)
    assert_nothing_left(docker_client, spec)
    assert not spec.folders.cache.exists()


def test_a_missing_image_names_the_next_step(
    launcher: DockerLauncher, make_spec: MakeSpec, docker_client: DockerClient
) -> None:
    spec = make_spec("sha256:" + "1" * 64, SERVE)
    with pytest.raises(EngineNotInstalled) as caught:
        launcher.start(spec)
    assert caught.value.hint == "runner install-runner --backend llama.cpp --variant cpu"
    assert_nothing_left(docker_client, spec)


def test_a_missing_model_folder_fails_clearly(
    launcher: DockerLauncher, serving: InstanceSpec, docker_client: DockerClient
) -> None:
    missing = replace(serving.folders, model=serving.folders.model / "missing")
    with pytest.raises(RunnerError, match="missing"):
        launcher.start(replace(serving, folders=missing))
    assert_nothing_left(docker_client, serving)


def test_a_socket_path_that_is_too_long_is_refused(
    launcher: DockerLauncher, serving: InstanceSpec, docker_client: DockerClient
) -> None:
    run = serving.folders.run / ("x" * 100)
    with pytest.raises(BadSettings, match="too long for a socket") as caught:
        launcher.start(replace(serving, folders=replace(serving.folders, run=run)))
    assert "RUNNER_HOME" in caught.value.hint
    assert_nothing_left(docker_client, serving)


def test_the_end_of_a_program_that_is_not_there_is_told(
    launcher: DockerLauncher, make_spec: MakeSpec, base_image: str
) -> None:
    """Docker's init tries to run it inside the container: seen at once, or a moment later."""
    spec = make_spec(base_image, "/no/such/program")
    try:
        launcher.start(spec)
    except EngineFailed as error:
        lines = error.log
    else:
        assert launcher.wait(name_of(spec)) == Exit(127)
        lines = tuple(launcher.logs(name_of(spec), tail=5))
        launcher.stop(name_of(spec), grace_s=0)
    assert any("/no/such/program" in line for line in lines)
