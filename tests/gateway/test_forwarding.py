"""Bytes on their way: framings, keep-alive, pipelining, both listeners."""

from __future__ import annotations

import asyncio

from tests.gateway.stage import (
    CHAT,
    EVENT_STREAM,
    REPLY,
    Message,
    Stage,
    Wire,
    chunked,
    staged,
)


@staged()
async def test_a_request_comes_and_goes_whole(on: Stage) -> None:
    path = "/engines/llamacpp/v1/chat/completions?x=1"
    more = "content-type: application/x-www-form-urlencoded\r\nauthorization: Bearer k\r\n"
    answer = await on.ask(on.request(path=path, more=more))
    assert (answer.status, answer.body) == (200, REPLY)
    assert answer.headers["x-runner-engine"] == "llama.cpp"
    assert "connection" not in answer.headers
    seen = on.engine.requests[0]
    assert seen.first == "POST /v1/chat/completions?x=1 HTTP/1.1"
    assert seen.headers == {
        "host": "localhost",
        "content-type": "application/json",
        "content-length": str(len(CHAT)),
    }
    assert seen.body == CHAT
    assert on.instances.asked == [("llama.cpp", "ai/demo", "completion")]
    await on.released()


@staged()
async def test_an_answer_says_whose_place_it_takes(on: Stage) -> None:
    first = await on.ask(on.request())
    assert "x-runner-fallback" not in first.headers
    on.instances.fallback = "vllm/cpu did not start (no such image): llama.cpp/cpu answers"
    second = await on.ask(on.request())
    assert second.headers["x-runner-fallback"] == on.instances.fallback
    assert second.headers["x-runner-engine"] == "llama.cpp"
    on.instances.fallback = "x (a\r\nset-cookie: b): y"
    third = await on.ask(on.request())
    assert third.headers["x-runner-fallback"] == "x (a  set-cookie: b): y"
    assert "set-cookie" not in third.headers
    assert third.body == REPLY


@staged(unix_engine=True)
async def test_unix_sockets_on_both_sides_and_any_host(on: Stage) -> None:
    wire = await on.connect(unix=True)
    await wire.send(on.request(host="whatever"))
    assert (await wire.message()).body == REPLY
    await wire.send(on.request(method="GET", path="/v1/models", host="whatever"))
    assert (await wire.message(bodyless=False)).body == b"GET /v1/models "


@staged()
async def test_connections_are_kept_on_both_sides(on: Stage) -> None:
    wire = await on.connect()
    for _ in range(20):
        await wire.send(on.request())
        assert (await wire.message()).status == 200
    assert len(on.engine.requests) == 20
    assert len(on.engine.wires) == 1


@staged()
async def test_a_stream_is_not_held_back(on: Stage) -> None:
    first_seen = asyncio.Event()

    async def stream(wire: Wire, request: Message) -> None:
        await wire.send(EVENT_STREAM + chunked(b"data: 1\n\n"))
        await first_seen.wait()
        await wire.send(chunked(b"data: 2\n\n") + chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    on.engine.script = stream
    wire = await on.connect()
    await wire.send(on.request())
    head = await wire.head()
    assert head.headers["content-type"] == "text/event-stream"
    assert await wire.chunk() == b"data: 1\n\n"
    first_seen.set()
    assert [chunk async for chunk in wire.chunks()] == [b"data: 2\n\n", b"data: [DONE]\n\n"]
    await wire.send(on.request())
    assert (await wire.message()).status == 200
    assert len(on.engine.wires) == 1


@staged()
async def test_a_head_in_small_pieces_behind_an_interim_one(on: Stage) -> None:
    async def drip(wire: Wire, request: Message) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(REPLY)
        for byte in b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + head + REPLY:
            await wire.send(bytes([byte]))
            await asyncio.sleep(0)

    on.engine.script = drip
    answer = await on.ask(on.request())
    assert (answer.status, answer.body) == (200, REPLY)
    assert "link" not in answer.headers


@staged()
async def test_pipelined_requests_are_answered_in_turn(on: Stage) -> None:
    async def echo(wire: Wire, request: Message) -> None:
        body = request.first.split()[1].encode()
        await wire.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))

    on.engine.script = echo
    wire = await on.connect()
    inference = [on.request(path=f"/v1/completions?{n}") for n in range(5)]
    other = on.request(method="GET", path="/v1/models")
    wrong = on.request(body=b"{")
    await wire.send(inference[0] + other + inference[1] + wrong + b"".join(inference[2:]))
    answers = [await wire.message() for _ in range(7)]
    assert [answer.body for answer in answers if answer.status == 200] == [
        b"/v1/completions?0",
        b"GET /v1/models ",
        b"/v1/completions?1",
        b"/v1/completions?2",
        b"/v1/completions?3",
        b"/v1/completions?4",
    ]
    assert answers[3].status == 400
    assert len(on.engine.wires) == 1


@staged()
async def test_a_long_row_of_refused_requests(on: Stage) -> None:
    wire = await on.connect()
    on.instances.loaded.clear()
    await wire.send(on.request() + on.request(body=b"{}") * 2000)
    await on.instances.waiters(1)
    on.instances.loaded.set()
    assert (await wire.message()).status == 200
    assert {(await wire.message()).status for _ in range(2000)} == {400}


@staged()
async def test_an_upload_in_chunks(on: Stage) -> None:
    wire = await on.connect()
    head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    await wire.send(head.encode())
    for start in range(0, len(CHAT), 7):
        await wire.send(chunked(CHAT[start : start + 7]))
    await wire.send(b"0\r\n\r\n")
    assert (await wire.message()).status == 200
    assert on.engine.requests[0].body == CHAT
    assert on.engine.requests[0].headers["content-length"] == str(len(CHAT))


@staged()
async def test_requests_that_come_byte_by_byte(on: Stage) -> None:
    wire = await on.connect()
    other = on.request(b"x", path="/models/create")
    for byte in on.request() + other + on.request(more="x-more: y\r\n"):
        await wire.send(bytes([byte]))
        await asyncio.sleep(0)
    assert (await wire.message()).body == REPLY
    assert (await wire.message()).body == b"POST /models/create x"
    assert (await wire.message()).body == REPLY
    assert [request.body for request in on.engine.requests] == [CHAT, CHAT]
    assert on.engine.requests[1].headers["x-more"] == "y"


@staged()
async def test_answers_of_all_kinds_on_one_connection(on: Stage) -> None:
    """Whatever is remembered of the last head must not leak into the next answer."""
    plain = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b"
    answers = [
        plain % (2, b"{}"),
        plain % (5, b"hello"),
        EVENT_STREAM + chunked(b"data: [DONE]\n\n") + b"0\r\nx-trailer: 1\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        plain % (2, b"{}"),
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ]

    async def next_one(wire: Wire, request: Message) -> None:
        await wire.send(answers[len(on.engine.requests) - 1])

    on.engine.script = next_one
    wire = await on.connect()
    seen: list[tuple[int, bytes]] = []
    for _ in answers:
        await wire.send(on.request())
        answer = await wire.message(bodyless=len(seen) == 3)
        seen.append((answer.status, answer.body))
    assert seen == [
        (200, b"{}"),
        (200, b"hello"),
        (200, b"data: [DONE]\n\n"),
        (204, b""),
        (200, b"{}"),
        (404, b"no"),
        (200, b""),
    ]
    assert len(on.engine.wires) == 1


@staged()
async def test_a_large_body_arrives_unchanged(on: Stage) -> None:
    body = b'{"model":"ai/demo","image":"' + b"A" * 5_000_000 + b'"}'
    assert (await on.ask(on.request(body))).status == 200
    assert on.engine.requests[0].body == body


@staged()
async def test_a_body_is_asked_for(on: Stage) -> None:
    wire = await on.connect()
    request = on.request(more="expect: 100-continue\r\n")
    await wire.send(request[: -len(CHAT)])
    assert (await wire.head()).status == 100
    await wire.send(CHAT)
    assert (await wire.message()).status == 200
    assert "expect" not in on.engine.requests[0].headers


@staged()
async def test_an_old_client_gets_a_plain_body_and_a_close(on: Stage) -> None:
    async def stream(wire: Wire, request: Message) -> None:
        chunks = chunked(b"data: 1\n\n") + chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n"
        for byte in EVENT_STREAM + chunks:
            await wire.send(bytes([byte]))
            await asyncio.sleep(0)

    on.engine.script = stream
    answer = await on.ask(on.request(version="1.0"))
    assert answer.body == b"data: 1\n\ndata: [DONE]\n\n"
    assert "transfer-encoding" not in answer.headers
    assert answer.headers["connection"] == "close"


@staged()
async def test_an_engine_that_ends_bodies_by_closing(on: Stage) -> None:
    async def stream(wire: Wire, request: Message) -> None:
        await wire.send(b"HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")
        await wire.send(b"data: [DO")
        await wire.send(b"NE]\n\n")
        wire.writer.close()

    on.engine.script = stream
    answer = await on.ask(on.request())
    assert answer.body == b"data: 1\n\ndata: [DONE]\n\n"
    assert answer.headers["connection"] == "close"


@staged()
async def test_an_offered_upgrade_is_passed_over(on: Stage) -> None:
    more = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"
    wire = await on.connect()
    await wire.send(on.request(more=more))
    assert (await wire.message()).status == 200
    assert on.engine.requests[0].body == CHAT
    await wire.send(on.request(method="GET", path="/hello", more=more))
    assert (await wire.message()).body == b"GET /hello "


@staged()
async def test_other_paths_reach_the_application_with_their_bodies(on: Stage) -> None:
    answer = await on.ask(on.request(b"payload", path="/models/create"))
    assert answer.body == b"POST /models/create payload"
    wire = await on.connect()
    request = on.request(b"late", path="/x", more="expect: 100-continue\r\n")
    await wire.send(request[:-4])
    assert (await wire.head()).status == 100
    await wire.send(b"late")
    assert (await wire.message()).body == b"POST /x late"


@staged(allowed_origins=("https://chat.example",))
async def test_a_page_may_read_the_answer_and_the_engine_hears_nothing_of_it(on: Stage) -> None:
    answer = await on.ask(on.request(more="origin: https://chat.example\r\n"))
    assert answer.headers["access-control-allow-origin"] == "https://chat.example"
    assert "origin" not in on.engine.requests[0].headers
    preflight = "origin: https://chat.example\r\naccess-control-request-method: POST\r\n"
    asked = await on.ask(on.request(method="OPTIONS", more=preflight), bodyless=True)
    assert asked.status == 204
    assert asked.headers["access-control-allow-origin"] == "https://chat.example"
