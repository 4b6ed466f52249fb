"""Instances as containers of this machine's Docker Engine, confined as `container` says."""

from __future__ import annotations

import logging
import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from runner.dockerhost import DockerFacts, DockerHost
from runner.engines.base import Endpoint, TcpEndpoint
from runner.errors import (
    LOG_TAIL,
    Conflict,
    EngineFailed,
    EngineNotInstalled,
    NotFound,
    RunnerError,
)
from runner.launch.base import (
    NO_LINES,
    Exit,
    Folders,
    InstanceSpec,
    LauncherKind,
    LogLines,
    Running,
    View,
)
from runner.launch.container import (
    CACHE_FOLDER,
    IMAGE_USER,
    LOOPBACK,
    MODEL_FOLDER,
    PORT,
    container_name,
    create_arguments,
    listens_on,
    seen_others,
)
from runner.launch.containerlog import ContainerLog, last_lines
from runner.launch.folders import Owner, engine_socket, make_folders, remove_run_folder
from runner.launch.labels import HOME, Labelled, from_labels
from runner.launch.networks import InstanceNetworks
from runner.launch.refusals import start_failure
from runner.launch.rendered import docker_run

if TYPE_CHECKING:
    from docker.models.containers import Container

log = logging.getLogger(__name__)

ALIVE = frozenset({"running", "paused"})
NETWORK_SHOWN = "bridge"
"""Stands for an instance's own network, which would have to be made first."""
HIGHEST_SIGNAL = 64
SIGNALLED = 128
"""A container's status is this plus the signal that ended its program."""


class DockerLauncher:
    """Starts, finds and stops the containers of one runner's home, known by their labels.

    `publish_ports` gives each instance a network of its own and a port on loopback instead of a
    Unix socket; None does that where the Docker Engine is in a virtual machine. An engine that
    can't use a Unix socket gets that in any case.
    """

    kind = LauncherKind.DOCKER
    survives_daemon = True

    def __init__(
        self, host: DockerHost, home_id: str, *, publish_ports: bool | None = None
    ) -> None:
        self._host = host
        self._home_id = home_id
        self._networks = InstanceNetworks(host, home_id)
        self._publish_ports = publish_ports
        self._starting: set[str] = set()
        self._lock = threading.Lock()

    def view(self, folders: Folders, *, tcp: bool = False) -> View:
        listen = listens_on(published=tcp or self._publishes)
        return View(MODEL_FOLDER, CACHE_FOLDER, listen, seen_others(folders.others))

    def start(self, spec: InstanceSpec) -> Endpoint:
        """Raises EngineNotInstalled, EngineFailed, Conflict, BadSettings, DockerUnavailable."""
        name = container_name(spec.identity.instance)
        network = name if spec.uses_tcp or self._publishes else None
        if network is None:
            engine_socket(spec.folders)
        spec = replace(spec, devices=spec.devices.present(os.path.exists))
        with self._claimed(name), ExitStack() as undo:
            undo.callback(make_folders(spec.folders, self._folder_owner))
            if network is not None:
                self._networks.make(network)
                undo.callback(self._networks.remove, network)
            container = self._create(spec, network)
            undo.callback(self._remove, container)
            self._run(container, spec)
            endpoint = self._endpoint(container, spec.folders)
            undo.pop_all()
        return endpoint

    def shown(self, spec: InstanceSpec) -> Sequence[str]:
        network = NETWORK_SHOWN if spec.uses_tcp or self._publishes else None
        spec = replace(spec, devices=spec.devices.present(os.path.exists))
        return docker_run(
            create_arguments(spec, home_id=self._home_id, user=self._user, network=network)
        )

    def wait(self, instance: str) -> Exit:
        try:
            with self._host.translated():
                container = self._own(instance)
                status = container.wait(timeout=None)["StatusCode"]
        except NotFound:
            return Exit(0)
        return _exit(int(status), self._ran_out_of_memory(container))

    def stop(self, instance: str, *, grace_s: float) -> None:
        name = container_name(instance)
        try:
            with self._host.translated():
                container = self._own(instance)
                container.stop(timeout=math.ceil(grace_s))
        except NotFound:
            self._networks.remove(name)
            return
        self._discard(container)

    def find(self) -> Sequence[Running]:
        found: list[Running] = []
        for container in self._all():
            labelled = from_labels(container.labels)
            if container.name in self._starting or container.status == "removing":
                continue
            if labelled is None or container.status not in ALIVE:
                log.info("removing %s (%s)", container.name, container.status)
                self._discard(container)
            else:
                found.append(self._running(container, labelled))
        used = {container_name(running.identity.instance) for running in found}
        self._networks.remove_strays(used | self._starting)
        return found

    def logs(self, instance: str, *, tail: int) -> Sequence[str]:
        try:
            return last_lines(self._host, self._own(instance), tail)
        except NotFound:
            return ()

    def follow(self, instance: str, *, tail: int) -> LogLines:
        try:
            return ContainerLog(self._host, self._own(instance), tail)
        except NotFound:
            return NO_LINES

    # What the Docker Engine is like

    @cached_property
    def _facts(self) -> DockerFacts:
        return self._host.facts()

    @property
    def _publishes(self) -> bool:
        return self._facts.desktop if self._publish_ports is None else self._publish_ports

    @property
    def _folder_owner(self) -> Owner | None:
        """Who must own what the engine writes; None leaves the folders to this program's user."""
        if os.geteuid() != 0 or self._facts.rootless:
            return None
        return Owner(IMAGE_USER, IMAGE_USER)

    @property
    def _user(self) -> str:
        if self._facts.rootless:
            # Root inside a rootless Docker is the user who runs it, and has no capabilities.
            return "0:0"
        if os.geteuid() == 0:
            return f"{IMAGE_USER}:{IMAGE_USER}"
        return f"{os.geteuid()}:{os.getegid()}"

    # Start

    @contextmanager
    def _claimed(self, name: str) -> Iterator[None]:
        """Keeps `find` away from a container that is about to start."""
        with self._lock:
            self._starting.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._starting.discard(name)

    def _create(self, spec: InstanceSpec, network: str | None) -> Container:
        arguments = create_arguments(spec, home_id=self._home_id, user=self._user, network=network)
        try:
            with self._host.translated() as docker:
                return docker.containers.create(**arguments)
        except NotFound as error:
            engine, variant = spec.identity.engine, spec.identity.variant
            raise EngineNotInstalled(
                f"the image of {engine}/{variant} is gone from Docker: {error.message}",
                hint=f"runner install-runner --backend {engine} --variant {variant}",
            ) from error
        except Conflict:
            raise
        except RunnerError as error:
            raise start_failure(spec.identity.engine, error) from error

    def _run(self, container: Container, spec: InstanceSpec) -> None:
        engine = spec.identity.engine
        try:
            with self._host.translated():
                container.start()
                container.reload()
        except RunnerError as error:
            raise start_failure(engine, error) from error
        if container.status not in ALIVE:
            status = container.attrs["State"]["ExitCode"]
            raise EngineFailed(
                f"{engine} ended at once with status {status}",
                log=last_lines(self._host, container, LOG_TAIL),
            )

    # What there is

    def _own(self, instance: str) -> Container:
        """This home's container of an instance; raises NotFound."""
        with self._host.translated() as docker:
            container = docker.containers.get(container_name(instance))
        if container.labels.get(HOME) != self._home_id:
            raise NotFound(f"there is no instance {instance}")
        return container

    def _all(self) -> list[Container]:
        with self._host.translated() as docker:
            return docker.containers.list(
                all=True, ignore_removed=True, filters={"label": f"{HOME}={self._home_id}"}
            )

    def _running(self, container: Container, labelled: Labelled) -> Running:
        endpoint = self._endpoint(container, labelled.folders)
        return Running(labelled.identity, endpoint, labelled.folders)

    def _endpoint(self, container: Container, folders: Folders) -> Endpoint:
        """Told by the container itself: it may be from a time when this was set otherwise."""
        published = container.attrs["NetworkSettings"]["Ports"].get(f"{PORT}/tcp")
        if published:
            return TcpEndpoint(LOOPBACK, int(published[0]["HostPort"]))
        return engine_socket(folders)

    def _ran_out_of_memory(self, container: Container) -> bool:
        try:
            with self._host.translated():
                container.reload()
        except NotFound:
            return False
        return bool(container.attrs["State"]["OOMKilled"])

    # Removal

    def _discard(self, container: Container) -> None:
        """Takes away an instance's container, network and run folder."""
        labelled = from_labels(container.labels)
        self._remove(container)
        self._networks.remove(str(container.name))
        if labelled is not None:
            remove_run_folder(labelled.folders)

    def _remove(self, container: Container) -> None:
        try:
            with self._host.translated():
                container.remove(force=True, v=True)
        except (NotFound, Conflict):
            return  # gone, or already being removed


def _exit(status: int, out_of_memory: bool) -> Exit:
    signal = status - SIGNALLED
    code = -signal if 0 < signal <= HIGHEST_SIGNAL else status
    return Exit(code, out_of_memory)
