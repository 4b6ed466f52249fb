"""The end of the gateway: what came is answered, what comes is refused."""

from __future__ import annotations

import asyncio
import json

from tests.gateway.stage import EVENT_STREAM, Message, Stage, Wire, chunked, staged


@staged()
async def test_a_stop_lets_requests_in_flight_finish(on: Stage) -> None:
    go_on = asyncio.Event()

    async def stream(wire: Wire, request: Message) -> None:
        await wire.send(EVENT_STREAM + chunked(b"data: 1\n\n"))
        await go_on.wait()
        await wire.send(chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    on.engine.script = stream
    idle, busy = await on.connect(), await on.connect()
    await idle.send(on.request(method="GET", path="/x"))
    assert (await idle.message()).status == 200
    await busy.send(on.request())
    await busy.head()
    assert await busy.chunk() == b"data: 1\n\n"
    on.server.should_exit = True
    assert await idle.ended()
    assert on.serving is not None
    assert not on.serving.done()
    go_on.set()
    assert [chunk async for chunk in busy.chunks()] == [b"data: [DONE]\n\n"]
    assert await busy.ended()
    await on.serving
    await on.engine.gone.wait()


@staged()
async def test_a_stop_lets_waiters_have_their_answer(on: Stage) -> None:
    on.instances.loaded.clear()
    wire = await on.connect()
    await wire.send(on.request())
    await on.instances.waiters(1)
    on.server.should_exit = True
    on.instances.loaded.set()
    answer = await wire.message()
    assert answer.status == 200
    assert on.serving is not None
    await on.serving


@staged()
async def test_draining_refuses_new_requests_and_nothing_else(on: Stage) -> None:
    wire = await on.connect()
    await wire.send(on.request())
    assert (await wire.message()).status == 200
    on.protocol.gateway.drain()
    await wire.send(on.request())
    answer = await wire.message()
    assert answer.status == 503
    assert json.loads(answer.body)["error"]["code"] == "shutting_down"
    answer = await on.ask(on.request(method="GET", path="/v1/models"))
    assert answer.status == 200


@staged()
async def test_closing_ends_everything_at_once(on: Stage) -> None:
    async def think(wire: Wire, request: Message) -> None:
        await wire.reader.read(1)
        raise ConnectionError

    on.engine.script = think
    wire = await on.connect()
    await wire.send(on.request())
    await on.engine.arrived.wait()
    on.protocol.gateway.close()
    assert await wire.ended()
    await on.engine.gone.wait()
    await on.released()


@staged()
async def test_idle_connections_to_engines_are_given_up(on: Stage) -> None:
    assert (await on.ask(on.request())).status == 200
    on.protocol.gateway.advance(31)
    assert on.protocol.gateway.pool.empty
    await on.engine.gone.wait()
