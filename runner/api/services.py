"""What the control plane's routes stand on: made once by the daemon, read from `app.state`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from runner.configuration import Configuration
from runner.dockerhost import DockerHost
from runner.installs.installer import Installer
from runner.scheduler.loop import InstanceLoop
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
    stop: Callable[[bool], None]
    ending: asyncio.Event
    started_at: float


def services(request: Request) -> Services:
    found = request.app.state.services
    assert isinstance(found, Services)
    return found
