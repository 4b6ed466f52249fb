"""Instances that plug-ins run by their own code, called in threads and never trusted."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from runner.engines.base import Endpoint, Engine, TcpEndpoint, UnixEndpoint
from runner.engines.foreign import Failed, called
from runner.engines.plugins import Patience, PluggedEngine, SelfRunning, Work
from runner.errors import LOG_TAIL, Conflict, EngineFailed, RunnerError
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
from runner.launch.filelog import FileLog, tail_of
from runner.launch.folders import engine_socket, make_folders, remove_run_folder
from runner.launch.ports import LoopbackPorts

log = logging.getLogger(__name__)

LOG_NAME = "engine.log"
HEALTH_POLL_S = 1.0
ASK_S = 5.0
"""For an answer that should come at once: health, figures, log lines."""
STOP_MARGIN_S = 5.0
"""What a stop may take beyond its grace."""
PATIENCE = 3
"""So many times in a row may the question for its health fail."""
STOPPED = Exit(0)
ENDED = Exit(1)
"""By itself: its health said so."""
MAX_PORT = 65535

Ask = Callable[..., object]
Made = TypeVar("Made")


class CodeLauncher:
    """Has plug-ins start and stop their engines. `start_s` is how long a start may take."""

    kind = LauncherKind.CODE
    survives_daemon = False

    def __init__(self, engines: Mapping[str, Engine], *, start_s: float) -> None:
        self._engines = engines
        self._start_s = start_s
        self._lock = threading.Lock()
        self._instances: dict[str, _Instance] = {}
        self._ports = LoopbackPorts()

    def view(self, folders: Folders, *, tcp: bool = False) -> View:
        """Plug-ins see what the daemon sees."""
        listen = self._ports.endpoint() if tcp else engine_socket(folders)
        others = tuple(str(other) for other in folders.others)
        return View(str(folders.model), str(folders.cache), listen, others)

    def start(self, spec: InstanceSpec) -> Endpoint:
        """Raises EngineFailed, BadSettings, Conflict, DiskFull, and what the plug-in raises of
        the runner's own errors."""
        name = spec.identity.instance
        engine = self._plugged(spec)
        plugin = engine.runner
        if plugin is None:
            raise _not_plugged(spec)
        instance = _Instance(name, engine, plugin, spec.folders)
        with self._lock:
            if name in self._instances:
                raise Conflict(f"the instance {name} is running already")
            self._instances[name] = instance
        try:
            undo = make_folders(spec.folders)
            try:
                return instance.start(_work(spec), self._start_s)
            except BaseException:
                undo()
                raise
        except BaseException:
            self._forget(name)
            raise

    def shown(self, spec: InstanceSpec) -> Sequence[str]:
        """No command: a line that says who starts it."""
        return (*self._plugged(spec).source.split(), "starts", "it", "itself")

    def wait(self, instance: str) -> Exit:
        found = self._find(instance)
        return STOPPED if found is None else found.wait()

    def stop(self, instance: str, *, grace_s: float) -> None:
        """What a plug-in can't stop is logged and given up: nobody is kept waiting for it."""
        found = self._find(instance)
        if found is None:
            return
        found.stop(grace_s)
        remove_run_folder(found.folders)
        self._forget(instance)

    def find(self) -> Sequence[Running]:
        """None: nobody but the daemon that started it knows how to speak to it."""
        return ()

    def logs(self, instance: str, *, tail: int) -> Sequence[str]:
        found = self._find(instance)
        return () if found is None else found.logs(tail)

    def follow(self, instance: str, *, tail: int) -> LogLines:
        """Of a plug-in that has no log file: nothing."""
        found = self._find(instance)
        if found is None:
            return NO_LINES
        try:
            return FileLog(found.log, tail, found.ended)
        except FileNotFoundError:
            return NO_LINES

    def stats(self, instance: str) -> Mapping[str, float]:
        """The engine's own figures, as far as its plug-in tells any."""
        found = self._find(instance)
        return {} if found is None else found.stats()

    def _plugged(self, spec: InstanceSpec) -> PluggedEngine:
        engine = self._engines.get(spec.identity.engine)
        if isinstance(engine, PluggedEngine):
            return engine
        raise _not_plugged(spec)

    def _find(self, instance: str) -> _Instance | None:
        with self._lock:
            return self._instances.get(instance)

    def _forget(self, instance: str) -> None:
        with self._lock:
            self._instances.pop(instance, None)


@dataclass(eq=False)
class _Instance:
    """One instance of a plug-in; `ended` is set once it has ended or was given up."""

    name: str
    engine: PluggedEngine
    plugin: SelfRunning
    folders: Folders
    ended: threading.Event = field(default_factory=threading.Event)
    exit: Exit = STOPPED
    patience: Mapping[str, Patience] = field(
        default_factory=lambda: {"logs": Patience(), "stats": Patience()}
    )

    @property
    def log(self) -> Path:
        return self.folders.run / LOG_NAME

    def start(self, work: Work, limit_s: float) -> Endpoint:
        """On failure what there is of it is stopped."""
        try:
            # One that starts after all when nobody waits any more is stopped as well.
            started = called(lambda: self.plugin.start(work), limit_s, late=lambda _: self._end(0))
            return _checked(started)
        except Failed as error:
            lines = self.logs(LOG_TAIL)
            self.stop(0)
            raise EngineFailed(
                f"{self.engine.description.name} did not start: {error}",
                hint=self.engine.hint(lines) or f"it is {self.engine.source} that starts it",
                log=lines,
            ) from error
        except RunnerError:
            self.stop(0)
            raise

    def stop(self, grace_s: float) -> None:
        try:
            called(lambda: self._end(grace_s), grace_s + STOP_MARGIN_S)
        except (Failed, RunnerError) as error:
            log.warning("%s could not stop %s: %s", self.engine.source, self.name, error)
        self.ended.set()

    def wait(self) -> Exit:
        """Asks for its health until it has ended."""
        failures = 0
        while not self.ended.wait(HEALTH_POLL_S):
            try:
                lives = called(lambda: bool(self.plugin.health(self.name)), ASK_S)
            except (Failed, RunnerError) as error:
                failures += 1
                log.warning("%s can't tell of %s: %s", self.engine.source, self.name, error)
                lives = failures < PATIENCE
            else:
                failures = 0
            if not lives and not self.ended.is_set():
                self.exit = ENDED
                self.ended.set()
        return self.exit

    def logs(self, tail: int) -> Sequence[str]:
        """Its log file's, where the plug-in has no words for it."""
        none: Sequence[str] = ()
        asked = self._asked("logs", lambda ask: _lines(ask(self.name, tail), tail), none)
        return tail_of(self.log, tail) if asked is None else asked

    def stats(self) -> Mapping[str, float]:
        """Only what are figures indeed."""
        return self._asked("stats", lambda ask: _figures(ask(self.name)), {}) or {}

    def _asked(self, what: str, read: Callable[[Ask], Made], nothing: Made) -> Made | None:
        """What `read` makes of the plug-in's method, `nothing` where that fails; None where there
        is no such method. Both run the plug-in's code, what it answers with included."""

        def work() -> Made | None:
            ask: Ask | None = getattr(self.plugin, what, None)
            return None if ask is None else read(ask)

        try:
            return self.patience[what].called(work, ASK_S)
        except (Failed, RunnerError) as error:
            log.warning("%s has no %s of %s: %s", self.engine.source, what, self.name, error)
            return nothing

    def _end(self, grace_s: float) -> None:
        self.plugin.stop(self.name, grace_s)


def _not_plugged(spec: InstanceSpec) -> EngineFailed:
    return EngineFailed(f"{spec.identity.engine} has no plug-in that could start it")


def _lines(lines: object, tail: int) -> Sequence[str]:
    if not isinstance(lines, (list, tuple)):
        return ()
    return tuple(str(line) for line in lines[-tail:])


def _figures(found: object) -> Mapping[str, float]:
    if not isinstance(found, Mapping):
        return {}
    return {
        str(name): float(value)
        for name, value in found.items()
        if isinstance(value, (int, float)) and math.isfinite(value)
    }


def _work(spec: InstanceSpec) -> Work:
    assert spec.plan is not None, "the plan goes with every instance that code starts"
    environment = {**spec.command.environment, **spec.devices.environment}
    return Work(
        instance=spec.identity.instance,
        plan=spec.plan,
        command=replace(spec.command, environment=environment),
        run=spec.folders.run,
        cache=spec.folders.cache,
        log=spec.folders.run / LOG_NAME,
        memory_bytes=spec.memory_bytes,
    )


def _checked(endpoint: object) -> Endpoint:
    """Raises Failed."""
    match endpoint:
        case UnixEndpoint(str(path)) if Path(path).is_absolute():
            return endpoint
        case TcpEndpoint(str(host), int(port)) if host and 0 < port <= MAX_PORT:
            return endpoint
    raise Failed(f"its plug-in returned {endpoint!r:.100}, which is no endpoint")
