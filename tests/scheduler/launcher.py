"""A launcher for tests: engines are threads that answer on real Unix sockets.

Whatever it waits for, and whatever is waited for in it, is an event.
"""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.engines.base import Endpoint, UnixEndpoint
from runner.launch.base import (
    NO_LINES,
    Exit,
    Folders,
    Identity,
    InstanceSpec,
    LauncherKind,
    LogLines,
    Running,
    View,
)

DEADLINE_S = 20.0


class _Health(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, _Server)
        while self.rfile.readline() not in {b"\r\n", b""}:
            pass
        self.wfile.write(f"HTTP/1.1 {self.server.status} Whatever\r\n\r\n".encode())


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True

    def __init__(self, path: Path, status: int) -> None:
        super().__init__(str(path), _Health)
        self.status = status


class FakeEngine:
    """Answers every request with one status, until it ends."""

    def __init__(self, path: Path, status: int) -> None:
        self.endpoint = UnixEndpoint(str(path))
        self.ended = threading.Event()
        self.exit = Exit(0)
        self._server = _Server(path, status)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def end(self, how: Exit) -> None:
        if self.ended.is_set():
            return
        self.exit = how
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.ended.set()


@dataclass
class ThreadLauncher:
    """`happened` tells what was done to which instance, in order.

    `start` sets `starting`, then waits for `may_start`; `failure` is what it raises, of those
    engines alone that `failing` names, if it names any.
    """

    folder: Path
    kind: LauncherKind = LauncherKind.PROCESS
    survives_daemon: bool = False
    status: int = 200
    lines: Sequence[str] = ()
    failure: Exception | None = None
    failing: frozenset[str] = frozenset()
    found: list[Running] = field(default_factory=list)
    happened: list[tuple[str, str]] = field(default_factory=list)
    engines: dict[str, FakeEngine] = field(default_factory=dict)
    starting: threading.Event = field(default_factory=threading.Event)
    may_start: threading.Event = field(default_factory=threading.Event)
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.may_start.set()

    @property
    def running(self) -> list[str]:
        return [name for name, engine in self.engines.items() if not engine.ended.is_set()]

    def what_happened_to(self, instance: str) -> list[str]:
        return [what for what, name in self.happened if name == instance]

    def left_running(self, identity: Identity) -> None:
        """An engine of an earlier daemon."""
        engine = self._engine(identity.instance)
        folders = Folders(self.folder, self.folder, self.folder)
        self.found.append(Running(identity, engine.endpoint, folders))

    def view(self, folders: Folders, *, tcp: bool = False) -> View:
        """Engines of threads see what the tests see."""
        others = tuple(str(other) for other in folders.others)
        return View(str(folders.model), str(folders.cache), UnixEndpoint("/unused.sock"), others)

    def start(self, spec: InstanceSpec) -> Endpoint:
        name = spec.identity.instance
        self.starting.set()
        assert self.may_start.wait(DEADLINE_S)
        if self.failure is not None and (not self.failing or spec.identity.engine in self.failing):
            raise self.failure
        engine = self._engine(name)
        self.happened.append(("started", name))
        return engine.endpoint

    def shown(self, spec: InstanceSpec) -> Sequence[str]:
        return (*spec.program, *spec.command.arguments)

    def wait(self, instance: str) -> Exit:
        engine = self.engines[instance]
        engine.ended.wait()
        return engine.exit

    def stop(self, instance: str, *, grace_s: float) -> None:
        self.happened.append(("stopped", instance))
        if instance in self.engines:
            self.engines[instance].end(Exit(0))
        self.stopped.set()

    def find(self) -> Sequence[Running]:
        return self.found

    def logs(self, instance: str, *, tail: int) -> Sequence[str]:
        return self.lines[-tail:]

    def follow(self, instance: str, *, tail: int) -> LogLines:
        return NO_LINES

    def close(self) -> None:
        self.may_start.set()
        for engine in self.engines.values():
            engine.end(Exit(0))

    def _engine(self, name: str) -> FakeEngine:
        engine = FakeEngine(self.folder / f"{name}.sock", self.status)
        self.engines[name] = engine
        return engine
