"""A gateway under test between real parts: uvicorn on two sockets, and a small scripted engine."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from runner.engines.base import Endpoint, Mode, TcpEndpoint, UnixEndpoint
from runner.engines.unknown_names import no_engine
from runner.errors import EngineFailed, ModelNotFound, RunnerError
from runner.gateway.guard import GuardMiddleware
from runner.gateway.protocol import GatewayProtocol, protocol_class
from runner.names import target
from runner.settings import Settings

DEADLINE = 20.0
MODEL = "ai/demo"
ENGINES = ("llama.cpp", "my-engine", "vllm")
CHAT = b'{"model":"ai/demo","messages":[]}'
REPLY = b'{"choices":[]}'


@dataclass(frozen=True)
class Message:
    """A request as the engine saw it, or a response as the client did."""

    first: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.first.split()[1])


class Wire:
    """One end of a connection, read and written as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Message:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        pairs = (line.split(": ", 1) for line in lines[1:])
        return Message(lines[0], {name.lower(): value for name, value in pairs})

    async def message(self, *, bodyless: bool = False) -> Message:
        head = await self.head()
        if bodyless or head.first.startswith(("GET", "HEAD")):
            body = b""
        elif head.headers.get("transfer-encoding") == "chunked":
            body = b"".join([chunk async for chunk in self.chunks()])
        elif "content-length" in head.headers:
            body = await self.reader.readexactly(int(head.headers["content-length"]))
        else:
            body = await self.reader.read()
        return Message(head.first, head.headers, body)

    async def chunk(self) -> bytes:
        size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n"
        return data

    async def chunks(self) -> AsyncIterator[bytes]:
        """To the end of the body, trailers and all."""
        while size := int((await self.reader.readuntil(b"\r\n"))[:-2], 16):
            yield (await self.reader.readexactly(size + 2))[:-2]
        while await self.reader.readuntil(b"\r\n") != b"\r\n":
            pass

    async def ended(self) -> bool:
        """Waits for the other end to close; False where bytes came instead."""
        try:
            return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def reset(self) -> None:
        self.writer.transport.abort()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


Script = Callable[[Wire, Message], Awaitable[None]]


async def reply(wire: Wire, request: Message) -> None:
    await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(REPLY), REPLY))


EVENT_STREAM = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@dataclass
class ScriptedEngine:
    """A real HTTP server that does with each request what its script says."""

    script: Script = reply
    requests: list[Message] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        self.wires.append(wire)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                request = await wire.message()
                self.requests.append(request)
                self.arrived.set()
                await self.script(wire, request)
        self.gone.set()
        await wire.close()


@dataclass
class HeldLease:
    endpoint: Endpoint
    engine: str = "llama.cpp"
    fallback: str = ""
    given_back: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        self.given_back.set()

    async def failure(self) -> RunnerError:
        return EngineFailed("the engine died", hint="look at its log", log=("out of memory",))


@dataclass
class ScriptedInstances:
    """One model; loaded from the start unless `loaded` is cleared."""

    endpoint: Endpoint
    fallback: str = ""
    loaded: asyncio.Event = field(default_factory=asyncio.Event)
    leases: list[HeldLease] = field(default_factory=list)
    asked: list[tuple[str | None, str, Mode]] = field(default_factory=list)
    waiting: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    looked_up: list[str] = field(default_factory=list)

    def refuse_unknown(self, engine: str) -> None:
        self.looked_up.append(engine)
        asked = target(engine)
        if asked.engine and asked.engine not in ENGINES:
            raise no_engine(asked.engine, ENGINES)

    def ready(self, engine: str | None, model: str, mode: Mode) -> HeldLease | None:
        self.asked.append((engine, model, mode))
        return self._grant() if self.loaded.is_set() and model == MODEL else None

    async def acquire(self, engine: str | None, model: str, mode: Mode) -> HeldLease:
        if model != MODEL:
            raise ModelNotFound(f"no model {model}", hint="runner ls lists them")
        await self._count(1)
        try:
            await self.loaded.wait()
        finally:
            await self._count(-1)
        return self._grant()

    async def waiters(self, number: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.waiting == number)

    def _grant(self) -> HeldLease:
        lease = HeldLease(self.endpoint, fallback=self.fallback)
        self.leases.append(lease)
        return lease

    async def _count(self, step: int) -> None:
        async with self.changed:
            self.waiting += step
            self.changed.notify_all()


async def hello(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's own
    """The ASGI side of the port: says what it was asked."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    said = f"{scope['method']} {scope['path']} {body.decode()}".encode()
    headers = [(b"content-length", b"%d" % len(said))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": said})


@dataclass
class Stage:
    """What a test finds set up."""

    engine: ScriptedEngine
    instances: ScriptedInstances
    protocol: type[GatewayProtocol]
    server: uvicorn.Server
    port: int
    unix: str
    folder: Path
    wires: list[Wire] = field(default_factory=list)
    serving: asyncio.Task[None] | None = None

    async def connect(self, *, unix: bool = False) -> Wire:
        if unix:
            opened = await asyncio.open_unix_connection(self.unix)
        else:
            opened = await asyncio.open_connection("127.0.0.1", self.port)
        wire = Wire(*opened)
        self.wires.append(wire)
        return wire

    def request(
        self,
        body: bytes = CHAT,
        *,
        path: str = "/v1/chat/completions",
        method: str = "POST",
        version: str = "1.1",
        host: str | None = None,
        more: str = "",
    ) -> bytes:
        host = host or f"localhost:{self.port}"
        length = f"content-length: {len(body)}\r\n" if method == "POST" else ""
        head = f"{method} {path} HTTP/{version}\r\nhost: {host}\r\n{length}{more}\r\n"
        return head.encode() + (body if method == "POST" else b"")

    async def ask(self, request: bytes, *, bodyless: bool = False) -> Message:
        wire = await self.connect()
        await wire.send(request)
        return await wire.message(bodyless=bodyless)

    async def released(self) -> None:
        """Waits until each lease was given back."""
        assert self.instances.leases
        for lease in self.instances.leases:
            await lease.given_back.wait()


@contextlib.asynccontextmanager
async def stage(*, unix_engine: bool = False, **settings: object) -> AsyncIterator[Stage]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        engine = ScriptedEngine()
        endpoint: Endpoint
        if unix_engine:
            endpoint = UnixEndpoint(str(folder / "e.sock"))
            listening = await asyncio.start_unix_server(engine.serve, endpoint.path)
        else:
            listening = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
            endpoint = TcpEndpoint(*listening.sockets[0].getsockname())
        instances = ScriptedInstances(endpoint)
        instances.loaded.set()
        values = Settings(**settings)  # type: ignore[arg-type]
        protocol = protocol_class(instances, values)
        tcp, local = _bind(str(folder / "g.sock"))
        config = uvicorn.Config(
            GuardMiddleware(hello, values),
            http=protocol,
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,
        )
        server = uvicorn.Server(config)
        port = tcp.getsockname()[1]
        set_up = Stage(engine, instances, protocol, server, port, str(folder / "g.sock"), folder)
        set_up.serving = asyncio.create_task(server.serve(sockets=[tcp, local]))
        try:
            yield set_up
        finally:
            await _tear_down(set_up, listening)


async def _tear_down(set_up: Stage, listening: asyncio.Server) -> None:
    set_up.protocol.gateway.close()
    set_up.server.should_exit = True
    assert set_up.serving is not None
    await set_up.serving
    for wire in [*set_up.wires, *set_up.engine.wires]:
        await wire.close()
    listening.close()
    await listening.wait_closed()


def _bind(path: str) -> tuple[socket.socket, socket.socket]:
    tcp = socket.create_server(("127.0.0.1", 0))
    local = socket.socket(socket.AF_UNIX)
    local.bind(path)
    local.listen()
    return tcp, local


def staged(**options: Any) -> Callable[[Callable[[Stage], Awaitable[None]]], Callable[[], None]]:  # noqa: ANN401
    """Plays an async test on a fresh stage within the deadline; the options are `stage`'s."""

    def wrap(test: Callable[[Stage], Awaitable[None]]) -> Callable[[], None]:
        async def play() -> None:
            async with asyncio.timeout(DEADLINE), stage(**options) as set_up:
                await test(set_up)

        def run() -> None:
            uvloop.run(play())

        run.__name__ = test.__name__
        run.__doc__ = test.__doc__
        return run

    return wrap
