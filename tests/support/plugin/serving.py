"""A plug-in that serves in threads of this process, and does wrong what a test tells it to."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runner.artifacts.media import ModelFormat
from runner.engines.base import Endpoint, Mode, UnixEndpoint
from runner.engines.description import ANY, EngineDescription, Form, Variant
from runner.engines.plugins import Work
from runner.names import Accelerator


def description(name: str = "serving", form: Form = Form.CODE) -> EngineDescription:
    return EngineDescription(
        name=name,
        title="Serving",
        summary="Answers 200 to everything",
        licence="MIT",
        source="",
        formats={ModelFormat.GGUF: (ANY,)},
        modes=frozenset({Mode.COMPLETION}),
        health_path="/health",
        priority=1,
        variants=(
            Variant(
                engine=name,
                name="code",
                accelerator=Accelerator.CPU,
                version="1.2",
                form=form,
                platforms=("linux/amd64",),
                folder=Path(),
                context=Path(),
            ),
        ),
    )


class _Answer(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while self.rfile.readline() not in {b"\r\n", b""}:
            pass
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def nothing(*arguments: object) -> None:
    """The step goes as it should."""


@dataclass
class Serving:
    """Each `on_…` is called first, with the step's arguments: it may raise, or wait."""

    description: EngineDescription = field(default_factory=description)
    on_start: Callable[[Work], object] = nothing
    on_stop: Callable[[str, float], object] = nothing
    on_health: Callable[[str], object] = nothing
    endpoint: object = None
    figures: object = field(default_factory=lambda: {"requests_running": 2})
    works: dict[str, Work] = field(default_factory=dict)
    happened: list[tuple[str, str]] = field(default_factory=list)
    servers: dict[str, _Server] = field(default_factory=dict)
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self, work: Work) -> Endpoint:
        self.on_start(work)
        assert isinstance(work.plan.listen, UnixEndpoint)
        server = _Server(work.plan.listen.path, _Answer)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.works[work.instance], self.servers[work.instance] = work, server
        self.happened.append(("started", work.instance))
        with work.log.open("a") as log:
            log.write("serving\n")
        return self.endpoint or work.plan.listen  # type: ignore[return-value]

    def stop(self, instance: str, grace_s: float) -> None:
        self.on_stop(instance, grace_s)
        self.happened.append(("stopped", instance))
        self.end(instance)
        self.stopped.set()

    def health(self, instance: str) -> bool:
        self.on_health(instance)
        return instance in self.servers

    def stats(self, instance: str) -> Mapping[str, float]:
        return self.figures  # type: ignore[return-value]

    def end(self, instance: str) -> None:
        """Its server goes, as if it had died."""
        server = self.servers.pop(instance, None)
        if server is not None:
            server.shutdown()
            server.server_close()
