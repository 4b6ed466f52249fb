"""The daemon: wires the layers together, listens, and ends in good order.

SIGINT (Ctrl-C) and `stop-runner` drain requests and stop the engines. SIGTERM and `restart-runner`
drain and leave containers running: the next daemon of the same home adopts them by their labels.
"""

from __future__ import annotations

import asyncio
import logging
import logging.handlers
import math
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import uvicorn

from runner.api.app import application
from runner.api.services import Services
from runner.configuration import Configuration
from runner.daemonlock import become_only_daemon
from runner.dockerhost import DockerHost
from runner.engines.registered import Engines, check_settings, engines
from runner.errors import AlreadyRunning, Unavailable
from runner.gateway.protocol import protocol_class
from runner.hardware.watch import HostWatch
from runner.installs.installer import Installer
from runner.launch.base import Launcher, LauncherKind
from runner.launch.code import CodeLauncher
from runner.launch.docker import DockerLauncher
from runner.launch.process import ProcessLauncher
from runner.scheduler.loop import InstanceLoop
from runner.scheduler.planning import Planner
from runner.state import State
from runner.store.store import store_of

log = logging.getLogger("runner")

LOG_BYTES = 10 * 1024 * 1024
BACKLOG = 2048
KEEP_ALIVE_S = 75
WORKERS_NAME = "work"
WORKERS = 64
"""Threads for what blocks: tools and a Docker that hang must leave some for all others."""
WORKERS_GRACE_S = 5.0
"""How long the end waits for them."""


class Server(uvicorn.Server):
    """Uvicorn's server, whose end says what becomes of the engines."""

    def __init__(self, config: uvicorn.Config, at_end: Callable[[], None]) -> None:
        super().__init__(config)
        self._at_end = at_end
        self.leave_engines = False
        self.ending = asyncio.Event()

    async def on_tick(self, counter: int) -> bool:
        """Tells those who wait or would go on for ever, such as followed logs, of the end."""
        ends = await super().on_tick(counter)
        if ends:
            self.ending.set()
            self._at_end()
        return ends

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Signals only set flags; a second Ctrl-C stops waiting for requests."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.end(leave_engines=sig == signal.SIGTERM)

    def end(self, leave_engines: bool) -> None:
        self.leave_engines = leave_engines
        self.should_exit = True


class Workers(ThreadPoolExecutor):
    """The event loop's threads, for whose work its end does not wait."""

    def __init__(self) -> None:
        super().__init__(WORKERS, thread_name_prefix=WORKERS_NAME)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Never waits: what hangs would keep the loop open for good."""
        super().shutdown(wait=False, cancel_futures=True)


def serve(configuration: Configuration, listening: Callable[[], None]) -> None:
    """Runs until it is told to end; calls `listening` once it has its port.

    Raises AlreadyRunning, Unavailable, SchemaTooNew.
    """
    home = configuration.home
    home.prepare()
    become_only_daemon(home)
    _refuse_newer_state(configuration)
    with _listening(configuration) as listeners:
        listening()
        _log_to(home.log_file, configuration.settings.log_level)
        _run(_serve(configuration, listeners))
    _leave_what_hangs()


def _leave_what_hangs() -> None:
    """The interpreter's own end would wait for the workers for ever."""
    deadline = time.monotonic() + WORKERS_GRACE_S
    working = [one for one in threading.enumerate() if one.name.startswith(WORKERS_NAME)]
    for one in working:
        one.join(max(0.0, deadline - time.monotonic()))
    if any(one.is_alive() for one in working):
        log.warning("left behind at the end: work that hangs")
        logging.shutdown()
        os._exit(0)


def _refuse_newer_state(configuration: Configuration) -> None:
    """At the start, not at the first request; raises SchemaTooNew."""
    State(configuration.home.state_file).installs()
    store_of(configuration).list()


async def _serve(configuration: Configuration, listeners: list[socket.socket]) -> None:
    asyncio.get_running_loop().set_default_executor(Workers())
    settings = configuration.settings
    docker = DockerHost()
    planner = await asyncio.to_thread(_planner, configuration, docker)
    launchers = _launchers(configuration, docker, planner.engines)
    instances = InstanceLoop(planner, launchers, load_timeout=settings.load_timeout)
    state = planner.state
    protocol = protocol_class(instances, settings)
    server = Server(
        uvicorn.Config(
            app=_not_yet,
            http=protocol,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=math.ceil(settings.drain_timeout),
        ),
        at_end=instances.refuse_new,
    )
    server.config.app = application(
        Services(
            configuration=configuration,
            store=planner.store,
            state=state,
            docker=docker,
            installer=Installer(docker, configuration, state, planner.engines, planner.host),
            instances=instances,
            planner=planner,
            launchers=launchers,
            stop=server.end,
            ending=server.ending,
            started_at=time.time(),
        )
    )
    await instances.adopt()
    home = configuration.home
    log.info("listening on http://%s:%d and %s", settings.host, settings.port, home.socket)
    await server.serve(sockets=listeners)
    protocol.gateway.close()
    log.info("ending: engines are %s", "left running" if server.leave_engines else "stopped")
    await instances.close(leave_running=server.leave_engines, drain_timeout=settings.drain_timeout)


async def _not_yet(scope: object, receive: object, send: object) -> None:
    """Holds the place of the application, which itself needs the server to end it."""


def _launchers(
    configuration: Configuration, docker: DockerHost, found: Engines
) -> Mapping[LauncherKind, Launcher]:
    return {
        LauncherKind.DOCKER: DockerLauncher(docker, configuration.home.identity),
        LauncherKind.PROCESS: ProcessLauncher(),
        LauncherKind.CODE: CodeLauncher(found, start_s=configuration.settings.load_timeout),
    }


def _planner(configuration: Configuration, docker: DockerHost) -> Planner:
    home = configuration.home
    found = engines(home.custom_engines)
    for problem in found.problems:
        log.warning("an engine is left out: %s", problem.message)
    check_settings(found, configuration.settings)
    return Planner(
        home=home,
        settings=configuration.settings,
        store=store_of(configuration),
        state=State(home.state_file),
        host=HostWatch(docker.facts),
        engines=found,
    )


def _run(main: Coroutine[object, object, None]) -> None:
    if sys.platform == "win32":
        asyncio.run(main)
        return
    import uvloop

    uvloop.run(main)


@contextmanager
def _listening(configuration: Configuration) -> Iterator[list[socket.socket]]:
    """The loopback port and the Unix socket, both taken before anything else begins."""
    settings, path = configuration.settings, configuration.home.socket
    with _tcp_listener(settings.host, settings.port) as tcp, _unix_listener(path) as unix:
        try:
            yield [tcp, unix]
        finally:
            path.unlink(missing_ok=True)


def _unix_listener(path: Path) -> socket.socket:
    """Its owner alone may connect. A file left by a daemon that was killed is in nobody's use."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise Unavailable(f"can't listen on {path}: {error.strerror}") from error
    finally:
        os.umask(before)
    return listener


def _tcp_listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise AlreadyRunning(
            f"port {port} on {host} is taken by another program",
            hint="set RUNNER_PORT to a free port, or end that program",
        ) from error
    return listener


def _log_to(file: Path, level: str) -> None:
    """To the home's log file, and to the terminal where there is one."""
    rotating = logging.handlers.RotatingFileHandler(file, maxBytes=LOG_BYTES, backupCount=2)
    handlers: list[logging.Handler] = [rotating]
    if sys.stderr.isatty():
        handlers.append(logging.StreamHandler())
    logging.basicConfig(
        level=level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        handlers=handlers,
        force=True,
    )
