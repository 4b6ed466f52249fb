"""The facts of this host as they are now, without asking its tools at every start."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from runner.dockerhost.facts import DockerFacts
from runner.errors import RunnerError
from runner.hardware.gather import host_facts
from runner.hardware.host import HostFacts

GOOD_FOR_S = 30.0
"""A driver that is loaded or a Docker Engine that starts is seen after this long at the latest."""


class HostWatch:
    """Called for the facts; safe from any thread. `docker` asks the Docker Engine."""

    def __init__(
        self,
        docker: Callable[[], DockerFacts],
        look: Callable[[DockerFacts | None], HostFacts] = host_facts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._docker = docker
        self._look = look
        self._clock = clock
        self._lock = threading.Lock()
        self._facts: HostFacts | None = None
        self._seen = 0.0

    def __call__(self) -> HostFacts:
        if not self._lock.acquire(blocking=self._facts is None) and self._facts is not None:
            # A tool that hangs holds up the one that asks it, not every load: these are recent.
            return self._facts
        try:
            if self._facts is None or self._clock() - self._seen > GOOD_FOR_S:
                return self._looked(self._docker_facts())
            if self._facts.docker is None and (docker := self._docker_facts()) is not None:
                return self._looked(docker)
            return self._facts
        finally:
            self._lock.release()

    def _looked(self, docker: DockerFacts | None) -> HostFacts:
        self._facts = self._look(docker)
        self._seen = self._clock()
        return self._facts

    def _docker_facts(self) -> DockerFacts | None:
        try:
            return self._docker()
        except RunnerError:
            return None
