"""The control plane without a daemon: the real application on a real store and state, asked in
this process. Nothing listens, and no engine starts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from starlette.testclient import TestClient

from runner.api.app import application
from runner.api.services import Services
from runner.cli.client import Client, remote_error
from runner.configuration import load
from runner.demo import gguf_path
from runner.dockerhost import DockerHost
from runner.engines.catalog import description_of
from runner.engines.llamacpp import LlamaCpp
from runner.engines.registered import Engines
from runner.engines.vllm import Vllm
from runner.errors import BadInput, RunnerError
from runner.hardware.host import HostFacts
from runner.installs.installer import Installer
from runner.launch.base import Launcher, LauncherKind
from runner.launch.docker import DockerLauncher
from runner.launch.process import ProcessLauncher
from runner.registry.reference import parse
from runner.scheduler.loop import InstanceLoop
from runner.scheduler.planning import Planner
from runner.state import State
from runner.store.store import store_of
from tests.hardware.hosts import RECORDINGS
from tests.models.packaging import package_gguf

MODEL = "localhost:5000/demo:1"
PROBLEM = BadInput("engines.d/mine/engine.yaml:3: no such field: formts", hint="formats")
"""An engine that could not be read."""


@dataclass(frozen=True)
class Control:
    services: Services
    http: TestClient

    def get(self, path: str) -> Any:  # noqa: ANN401 - a decoded JSON document
        return _decoded(self.http.get(path))

    def post(self, path: str, body: Mapping[str, object]) -> Any:  # noqa: ANN401
        return _decoded(self.http.post(path, json=dict(body)))

    def package_demo(self, name: str = MODEL) -> str:
        """The model's ID."""
        return package_gguf(self.services.store, gguf_path(), parse(name)).id


class InProcess(Client):
    """The command line's client, whose daemon is this process."""

    def __init__(self, control: Control) -> None:
        super().__init__(control.services.configuration.home.socket)
        self._control = control

    def get(self, path: str) -> Any:  # noqa: ANN401
        return self._control.get(path)

    def post(self, path: str, body: Mapping[str, object]) -> Any:  # noqa: ANN401
        return self._control.post(path, body)

    def lines(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> Iterator[str]:
        """A job that is refused before its first line is an ordinary error."""
        response = self._control.http.request(method, path, json=dict(body or {}))
        if response.status_code >= 400:
            raise remote_error(response.json(), response.status_code)
        yield from response.text.splitlines()


def recorded(host: str) -> HostFacts:
    from runner.hardware.host import from_json

    return from_json((RECORDINGS / f"{host}.json").read_bytes())


@contextmanager
def control(host: HostFacts, engines: Engines | None = None) -> Iterator[Control]:
    """Of the RUNNER_HOME that the environment names; with llama.cpp and vLLM where no others are
    given."""
    services = _services(host, engines or _two_engines())
    with TestClient(application(services), base_url="http://localhost") as client:
        yield Control(services, client)


def _two_engines() -> Engines:
    return Engines([LlamaCpp(description_of("llama.cpp")), Vllm(description_of("vllm"))], [PROBLEM])


def _services(host: HostFacts, engines: Engines) -> Services:
    configuration = load()
    home = configuration.home
    home.prepare()
    docker, state = DockerHost(), State(home.state_file)
    planner = Planner(
        home=home,
        settings=configuration.settings,
        store=store_of(configuration),
        state=state,
        host=lambda: host,
        engines=engines,
    )
    launchers: dict[LauncherKind, Launcher] = {
        LauncherKind.DOCKER: DockerLauncher(docker, home.identity),
        LauncherKind.PROCESS: ProcessLauncher(),
    }
    return Services(
        configuration=configuration,
        store=planner.store,
        state=state,
        docker=docker,
        installer=Installer(docker, configuration, state, engines, planner.host),
        instances=InstanceLoop(planner, launchers, load_timeout=1),
        planner=planner,
        launchers=launchers,
        stop=lambda leave: None,
        ending=asyncio.Event(),
        started_at=time.time(),
    )


def _decoded(response: Any) -> Any:  # noqa: ANN401 - of whichever httpx the test client uses
    """Raises the daemon's error as the command line does."""
    if response.status_code >= 400:
        raise remote_error(response.json(), response.status_code)
    return response.json()


def refusal(control: Control, path: str, body: Mapping[str, object]) -> RunnerError:
    try:
        control.post(path, body)
    except RunnerError as error:
        return error
    raise AssertionError(f"{path} took {body}")
