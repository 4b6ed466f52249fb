"""Engines that end, and clients that leave."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.gateway.stage import EVENT_STREAM, REPLY, Message, Stage, Wire, chunked, reply, staged


@staged()
async def test_refused(on: Stage) -> None:
    on.engine.script = reply
    on.instances.endpoint = type(on.instances.endpoint)("127.0.0.1", 1)  # type: ignore[call-arg]
    answer = await on.ask(on.request())
    assert answer.status == 502
    assert json.loads(answer.body)["error"] == {
        "message": "the engine died",
        "type": "engine_error",
        "param": None,
        "code": "engine_failed",
        "hint": "look at its log",
        "log": ["out of memory"],
    }
    await on.released()


@staged(unix_engine=True)
async def test_no_such_socket(on: Stage) -> None:
    on.instances.endpoint = type(on.instances.endpoint)(str(on.folder / "none"))  # type: ignore[call-arg]
    assert (await on.ask(on.request())).status == 502


@staged()
async def test_died_before_its_head_was_complete(on: Stage) -> None:
    for sent in (b"", b"HTTP/1.1 200 OK\r\ncontent-le"):

        async def die(wire: Wire, request: Message, sent: bytes = sent) -> None:
            await wire.send(sent)
            wire.writer.close()

        on.engine.script = die
        on.engine.requests.clear()
        wire = await on.connect()
        await wire.send(on.request())
        assert (await wire.message()).status == 502
        assert len(on.engine.requests) == 1
        on.engine.script = reply
        await wire.send(on.request())
        assert (await wire.message()).body == REPLY


@staged()
async def test_not_http(on: Stage) -> None:
    async def babble(wire: Wire, request: Message) -> None:
        await wire.send(b"220 mail.example ESMTP\r\n")

    on.engine.script = babble
    assert (await on.ask(on.request())).status == 502


@staged()
async def test_a_stale_connection_is_tried_again_once(on: Stage) -> None:
    async def die_on_second(wire: Wire, request: Message) -> None:
        if len(on.engine.requests) == 2:
            wire.writer.close()
        else:
            await reply(wire, request)

    on.engine.script = die_on_second
    wire = await on.connect()
    for _ in range(2):
        await wire.send(on.request())
        assert (await wire.message()).body == REPLY
    assert len(on.engine.requests) == 3
    assert len(on.engine.wires) == 2


@staged()
async def test_a_second_death_is_final(on: Stage) -> None:
    async def only_once(wire: Wire, request: Message) -> None:
        if len(on.engine.requests) > 1:
            wire.writer.close()
        else:
            await reply(wire, request)

    on.engine.script = only_once
    wire = await on.connect()
    await wire.send(on.request())
    assert (await wire.message()).status == 200
    await wire.send(on.request())
    assert (await wire.message()).status == 502
    assert len(on.engine.requests) == 3


@staged()
async def test_died_in_an_event_stream(on: Stage) -> None:
    async def die(wire: Wire, request: Message) -> None:
        await wire.send(EVENT_STREAM + chunked(b"data: 1\n\n"))
        wire.reset()

    on.engine.script = die
    wire = await on.connect()
    await wire.send(on.request())
    await wire.head()
    assert await wire.chunk() == b"data: 1\n\n"
    event = await wire.chunk()
    assert event.startswith(b"data: {")
    assert json.loads(event[6:])["error"]["log"] == ["out of memory"]
    assert await wire.ended()
    await on.released()


@staged()
async def test_died_within_a_chunk(on: Stage) -> None:
    for cut in (b"9\r\ndata", b"9\r", b"9", b"9\r\ndata: 1\n\n", b"9\r\ndata: 1\n\n\r"):

        async def die(wire: Wire, request: Message, cut: bytes = cut) -> None:
            await wire.send(EVENT_STREAM + chunked(b"data: 0\n\n"))
            await wire.send(cut)
            wire.writer.close()

        on.engine.script = die
        wire = await on.connect()
        await wire.send(on.request())
        await wire.head()
        assert await wire.chunk() == b"data: 0\n\n"
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await wire.chunk()


@staged()
async def test_died_before_the_first_event(on: Stage) -> None:
    async def die(wire: Wire, request: Message) -> None:
        await wire.send(EVENT_STREAM)
        wire.writer.close()

    on.engine.script = die
    wire = await on.connect()
    await wire.send(on.request())
    await wire.head()
    assert b'data: {"error"' in await wire.chunk()
    assert await wire.ended()


@staged()
async def test_died_in_a_stream_after_others_on_the_same_connection(on: Stage) -> None:
    async def die_on_third(wire: Wire, request: Message) -> None:
        await wire.send(EVENT_STREAM + chunked(b"data: 1\n\n"))
        if len(on.engine.requests) == 3:
            wire.writer.close()
        else:
            await wire.send(b"0\r\n\r\n")

    on.engine.script = die_on_third
    wire = await on.connect()
    for _ in range(2):
        await wire.send(on.request())
        assert (await wire.message()).body == b"data: 1\n\n"
    await wire.send(on.request())
    await wire.head()
    assert await wire.chunk() == b"data: 1\n\n"
    assert b'data: {"error"' in await wire.chunk()
    assert await wire.ended()
    assert len(on.engine.wires) == 1


@staged()
async def test_died_while_an_old_client_read_its_stream(on: Stage) -> None:
    first_seen = asyncio.Event()

    async def die(wire: Wire, request: Message) -> None:
        await wire.send(EVENT_STREAM + chunked(b"data: 1\n\n"))
        await first_seen.wait()
        wire.writer.close()

    on.engine.script = die
    wire = await on.connect()
    await wire.send(on.request(version="1.0"))
    await wire.head()
    assert await wire.reader.readuntil(b"\n\n") == b"data: 1\n\n"
    first_seen.set()
    with pytest.raises(ConnectionResetError):
        while True:
            line = await wire.reader.readuntil(b"\n\n")
            assert line.startswith(b'data: {"error"')


@staged()
async def test_an_unframed_stream_without_its_end_mark(on: Stage) -> None:
    async def die(wire: Wire, request: Message) -> None:
        await wire.send(b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        wire.writer.close()

    on.engine.script = die
    wire = await on.connect()
    await wire.send(on.request())
    await wire.head()
    with pytest.raises(ConnectionResetError):
        while True:
            await wire.reader.readuntil(b"\n\n")


@staged()
async def test_died_in_a_plain_body(on: Stage) -> None:
    async def die(wire: Wire, request: Message) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        wire.writer.close()

    on.engine.script = die
    wire = await on.connect()
    await wire.send(on.request())
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await wire.message()
    await on.released()


@staged()
async def test_more_bytes_than_announced_reach_nobody(on: Stage) -> None:
    async def overflow(wire: Wire, request: Message) -> None:
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n")

    on.engine.script = overflow
    assert (await on.ask(on.request())).status == 502


@staged()
async def test_a_client_that_leaves_mid_stream_stops_the_engine(on: Stage) -> None:
    async def endless(wire: Wire, request: Message) -> None:
        await wire.send(EVENT_STREAM + chunked(b"data: 1\n\n"))
        await wire.reader.read(1)
        raise ConnectionError

    on.engine.script = endless
    wire = await on.connect()
    await wire.send(on.request())
    await wire.head()
    await wire.close()
    await on.engine.gone.wait()
    await on.released()


@staged()
async def test_a_client_that_leaves_before_the_answer_stops_the_engine(on: Stage) -> None:
    async def think(wire: Wire, request: Message) -> None:
        await wire.reader.read(1)
        raise ConnectionError

    on.engine.script = think
    wire = await on.connect()
    await wire.send(on.request())
    await on.engine.arrived.wait()
    wire.reset()
    await on.engine.gone.wait()
    await on.released()


@staged()
async def test_a_waiter_leaves_alone(on: Stage) -> None:
    on.instances.loaded.clear()
    stays, leaves = await on.connect(), await on.connect()
    await stays.send(on.request())
    await leaves.send(on.request())
    await on.instances.waiters(2)
    await leaves.close()
    await on.instances.waiters(1)
    on.instances.loaded.set()
    assert (await stays.message()).body == REPLY
    assert len(on.engine.requests) == 1
