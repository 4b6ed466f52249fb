"""What the control plane's routes stand on: made once by the daemon, read from `app.state`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request

from runner.configuration import Configuration
from runner.dockerhost import DockerHost
from runner.engines.registered import Engines
from runner.hardware.host import HostFacts
from runner.installs.installer import Installer
from runner.launch.base import Launcher, LauncherKind
from runner.scheduler.loop import InstanceLoop
from runner.scheduler.planning import Planner
from runner.state import State
from runner.store.store import ModelStore


@dataclass(frozen=True, slots=True)
class Services:
    """`stop` ends the daemon; its argument says whether engines that can outlive it stay.

    `ending` is set once the end has begun.
    """

    configuration: Configuration
    store: ModelStore
    state: State
    docker: DockerHost
    installer: Installer
    instances: InstanceLoop
    planner: Planner
    launchers: Mapping[LauncherKind, Launcher]
    stop: Callable[[bool], None]
    ending: asyncio.Event
    started_at: float

    @property
    def engines(self) -> Engines:
        return self.planner.engines

    @property
    def host(self) -> Callable[[], HostFacts]:
        return self.planner.host


def services(request: Request) -> Services:
    found = request.app.state.services
    assert isinstance(found, Services)
    return found
