"""A slow end slows the other one down; nothing piles up between them."""

from __future__ import annotations

import asyncio
import socket

from tests.gateway.stage import Message, Stage, Wire, chunked, staged

PIECE = b"x" * 65536
PIECES = 1024
"""64 MiB: far more than all sockets and buffers on the way hold."""

MOST_ON_THE_WAY = 16 * 2**20


@staged()
async def test_a_client_that_does_not_read(on: Stage) -> None:
    sent = 0
    stuck = asyncio.Event()

    async def pour(wire: Wire, request: Message) -> None:
        nonlocal sent
        await wire.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(PIECES):
            wire.writer.write(chunked(PIECE))
            try:
                await asyncio.wait_for(wire.writer.drain(), 1)
            except TimeoutError:
                stuck.set()
                await wire.writer.drain()
            sent += len(PIECE)
        await wire.send(b"0\r\n\r\n")

    on.engine.script = pour
    wire = await slow_client(on)
    await wire.send(on.request())
    await stuck.wait()
    assert sent < MOST_ON_THE_WAY
    await wire.head()
    received = 0
    async for chunk in wire.chunks():
        received += len(chunk)
    assert received == PIECES * len(PIECE)


@staged()
async def test_a_client_that_never_reads_again_is_sent_away(on: Stage) -> None:
    stuck = asyncio.Event()

    async def pour(wire: Wire, request: Message) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            wire.writer.write(chunked(PIECE))
            try:
                await asyncio.wait_for(wire.writer.drain(), 1)
            except TimeoutError:
                stuck.set()
                await wire.writer.drain()

    on.engine.script = pour
    wire = await slow_client(on)
    await wire.send(on.request())
    await stuck.wait()
    for _ in range(301):
        on.protocol.gateway.advance()
    await on.engine.gone.wait()
    await on.released()


async def slow_client(on: Stage) -> Wire:
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    peer.setblocking(False)
    await asyncio.get_running_loop().sock_connect(peer, ("127.0.0.1", on.port))
    wire = Wire(*await asyncio.open_connection(sock=peer, limit=65536))
    on.wires.append(wire)
    return wire
