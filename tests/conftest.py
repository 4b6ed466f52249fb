"""What tests share: an own home each, one registry, one engine image, and a check that all is gone.

Tests that use Docker are marked `docker` (those that use its fixtures are marked by themselves);
for all others Docker is out of reach.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import images, leftovers
from tests.support.ports import free_port

if TYPE_CHECKING:
    from docker import DockerClient
    from pytest_docker.plugin import Services

DOCKER_FIXTURES = {"base_image", "engine_image", "registry", "docker_client", "docker_services"}
NO_DOCKER = "unix:///nonexistent/docker.sock"
REGISTRY_PORT = 5000


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if DOCKER_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.docker)


def _uses_docker(item: pytest.Item) -> bool:
    return item.get_closest_marker("docker") is not None


@pytest.fixture(scope="session")
def session_folder() -> Iterator[Path]:
    """A folder with a short path, because a Unix socket's address holds about a hundred bytes."""
    folder = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp")).resolve()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session", autouse=True)
def _environment(session_folder: Path) -> Iterator[str]:
    """No variable of the person's own runner counts here, and their home is out of reach."""
    session = uuid.uuid4().hex
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("RUNNER_")]:
            if name != "RUNNER_BASE_IMAGE":
                patch.delenv(name)
        patch.setenv("RUNNER_HOME", str(session_folder / "home"))
        patch.setenv(leftovers.SESSION_VARIABLE, session)
        yield session


@pytest.fixture(scope="session", autouse=True)
def _nothing_left(
    request: pytest.FixtureRequest, _environment: str, session_folder: Path
) -> Iterator[None]:
    """Fails the session for containers, networks, volumes and processes that outlive it."""
    with_docker = any(_uses_docker(item) for item in request.session.items)
    client = _connect_if_any() if with_docker else None
    project = _project(_environment)
    before = (
        leftovers.docker_things(client, project, session_folder) if client else leftovers.Things()
    )

    def look() -> leftovers.Things:
        things = (
            leftovers.docker_things(client, project, session_folder)
            if client
            else leftovers.Things()
        )
        return (things - before) | leftovers.processes(_environment, session_folder)

    yield
    try:
        left = leftovers.still_there(look)
    finally:
        if client:
            client.close()
    assert not left, "the tests left behind:\n" + "\n".join(sorted(left))


@pytest.fixture(autouse=True)
def _docker_only_where_marked(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not _uses_docker(request.node):
        monkeypatch.setenv("DOCKER_HOST", NO_DOCKER)


@pytest.fixture
def home(session_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty RUNNER_HOME with a free RUNNER_PORT, both set in the environment."""
    folder = Path(tempfile.mkdtemp(dir=session_folder, prefix=""))
    monkeypatch.setenv("RUNNER_HOME", str(folder))
    monkeypatch.setenv("RUNNER_PORT", str(free_port()))
    yield folder
    shutil.rmtree(folder)


def _connect() -> DockerClient:
    """A client of the engine that the `docker` command talks to."""
    from docker import DockerClient

    endpoint = subprocess.run(
        ["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return DockerClient(base_url=endpoint.stdout.strip())


def _connect_if_any() -> DockerClient | None:
    """None where no engine answers: the tests that need one say so themselves."""
    from docker.errors import DockerException

    try:
        return _connect()
    except (DockerException, OSError, subprocess.CalledProcessError):
        return None


@pytest.fixture(scope="session")
def docker_client(_nothing_left: None) -> Iterator[DockerClient]:
    client = _connect()
    yield client
    client.close()


@pytest.fixture(scope="session")
def base_image(request: pytest.FixtureRequest) -> str:
    """The reference of the image to put under `FROM debian:bookworm-slim` in builds."""
    with _shown(request):
        return images.base_image()


@pytest.fixture(scope="session")
def engine_image(request: pytest.FixtureRequest, base_image: str) -> str:
    """The reference of the llama.cpp image for CPUs, built where this content never was."""
    tag = images.engine_tag(base_image)
    if images.image_id(tag) is None:
        with _shown(request):
            print(f"\nbuilding {tag}: about 12 minutes on two cores", flush=True)
            images.build_engine(tag, base_image)
    return tag


@contextmanager
def _shown(request: pytest.FixtureRequest) -> Iterator[None]:
    """What is printed goes to the terminal: a silent quarter of an hour looks like a hang."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        yield


def _project(session: str) -> str:
    return f"runner-test-{session[:12]}"


@pytest.fixture(scope="session")
def docker_compose_command(base_image: str) -> str:
    """Docker chooses a free port for the registry."""
    return f"RUNNER_REGISTRY_PORT=0 RUNNER_BASE_IMAGE={base_image} docker compose"


@pytest.fixture(scope="session")
def docker_compose_file() -> str:
    return str(images.ROOT / "compose.yaml")


@pytest.fixture(scope="session")
def docker_compose_project_name(_environment: str) -> str:
    return _project(_environment)


@pytest.fixture(scope="session")
def docker_setup() -> str:
    return "up --detach --wait registry"


@pytest.fixture(scope="session")
def docker_cleanup() -> str:
    return "down --volumes --remove-orphans --rmi local"


@pytest.fixture(scope="session")
def registry(docker_services: Services) -> str:
    """The address of a registry without accounts and encryption, shared by the session's tests."""
    return f"localhost:{docker_services.port_for('registry', REGISTRY_PORT)}"
