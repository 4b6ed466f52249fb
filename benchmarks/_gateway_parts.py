"""The processes that `benchmarks/gateway.py` measures with: `python _gateway_parts.py ROLE …`.

ours PORT JSON_PORT STREAM_PORT   the gateway, in front of two engines
stream PORT                       an engine that streams events at a steady pace
listen PORT STREAMS CHUNKS        a client that reads that many streams at once
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import uvloop

if TYPE_CHECKING:
    from runner.engines.base import Endpoint, Mode
    from runner.errors import RunnerError

PACE = 0.02
"""Seconds between two events of a stream: slow enough that no proxy falls behind."""

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"stream",'
    b'"choices":[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}\n\n'
)
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
LAST_CHUNK = b"0\r\n\r\n"


class StreamingEngine(asyncio.Protocol):
    """Answers each request with as many events as its body asks for: {"model": …, "n": …}."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        self.asked = b""

    def data_received(self, data: bytes) -> None:
        self.asked += data
        if self.asked.endswith(b"}"):
            self.left = int(self.asked.rsplit(b":", 1)[1][:-1])
            self.asked = b""
            self.transport.write(HEAD)
            self.next = asyncio.get_running_loop().time()
            self.tick()

    def tick(self) -> None:
        self.left -= 1
        self.transport.write(CHUNK if self.left else CHUNK + LAST_CHUNK)
        if self.left:
            self.next += PACE
            asyncio.get_running_loop().call_at(self.next, self.tick)


class Listener(asyncio.Protocol):
    """Reads one stream to its end and counts its events."""

    def __init__(self, port: int, chunks: int) -> None:
        body = b'{"model":"stream","n":%d}' % chunks
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-length: %d\r\n\r\n"
        )
        self.request = (head % (port, len(body))).encode() + body
        self.events = 0
        self.tail = b""
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self.request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.events += data.count(b"data: ")
        self.tail = (self.tail + data)[-len(LAST_CHUNK) :]
        if self.tail == LAST_CHUNK:
            self.over.set_result(self.events)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self.over.set_exception(exc or ConnectionError("the stream ended early"))


async def listen(port: int, streams: int, chunks: int) -> None:
    loop = asyncio.get_running_loop()
    opened = [
        await loop.create_connection(lambda: Listener(port, chunks), "127.0.0.1", port)
        for _ in range(streams)
    ]
    counted = await asyncio.gather(*(listener.over for _, listener in opened))
    assert counted == [chunks] * streams, "events were lost"
    for transport, _ in opened:
        transport.close()


async def stream(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(StreamingEngine, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


class Held:
    """A lease that is always there."""

    engine = "llama.cpp"
    fallback = ""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint

    def release(self) -> None: ...

    async def failure(self) -> RunnerError:
        from runner.errors import EngineFailed

        return EngineFailed("the benchmark's engine is gone")


class AlwaysReady:
    def __init__(self, leases: dict[str, Held]) -> None:
        self.leases = leases

    def refuse_unknown(self, engine: str) -> None:
        """Every engine is there."""

    def ready(self, engine: str | None, model: str, mode: Mode) -> Held:
        return self.leases[model]

    async def acquire(self, engine: str | None, model: str, mode: Mode) -> Held:
        return self.leases[model]


async def nothing(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI's own
    """The ASGI side, which no request of the benchmark reaches."""


def ours(port: int, json_port: int, stream_port: int) -> None:
    import uvicorn

    from runner.engines.base import TcpEndpoint
    from runner.gateway.protocol import protocol_class
    from runner.settings import Settings

    ports = {"json": json_port, "stream": stream_port}
    leases = {name: Held(TcpEndpoint("127.0.0.1", number)) for name, number in ports.items()}
    uvicorn.run(
        nothing,
        host="127.0.0.1",
        port=port,
        http=protocol_class(AlwaysReady(leases), Settings()),
        loop="uvloop",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
    )


def main() -> None:
    role, *numbers = sys.argv[1:]
    values = [int(number) for number in numbers]
    if role == "ours":
        ours(*values)
    elif role == "stream":
        uvloop.run(stream(*values))
    else:
        uvloop.run(listen(*values))


if __name__ == "__main__":
    main()
