"""What the data plane answers itself, and that the connection is in order afterwards."""

from __future__ import annotations

import json

from runner.errors import EngineFailed, ModelNotFound
from runner.gateway.protocol import MAX_HEAD
from tests.gateway.stage import CHAT, REPLY, Message, Stage, staged


def code(answer: Message) -> str:
    return str(json.loads(answer.body)["error"]["code"])


@staged()
async def test_bodies_that_name_no_model(on: Stage) -> None:
    wire = await on.connect()
    for body, expected in [
        (b"{", "bad_input"),
        (b"", "bad_input"),
        (b"model=x", "bad_input"),
        (b"[]", "missing_model"),
        (b"{}", "missing_model"),
        (b'{"model":""}', "missing_model"),
        (b'{"model":3}', "missing_model"),
        (b'{"model":null}', "missing_model"),
    ]:
        await wire.send(on.request(body))
        answer = await wire.message()
        assert (answer.status, code(answer)) == (400, expected), body
    await wire.send(on.request())
    assert (await wire.message()).body == REPLY


@staged()
async def test_an_unknown_model(on: Stage) -> None:
    answer = await on.ask(on.request(b'{"model":"nobody/knows"}'))
    assert (answer.status, code(answer)) == (404, ModelNotFound.code)
    assert json.loads(answer.body)["error"]["param"] == "model"


@staged()
async def test_an_unknown_engine(on: Stage) -> None:
    for path, near in [
        ("/engines/vlm/v1/completions", "vllm"),
        ("/engines/vlm:cuda/v1/chat/completions", "vllm"),
        ("/engines/myengine/v1/completions", "my-engine"),
    ]:
        answer = await on.ask(on.request(path=path))
        assert (answer.status, code(answer)) == (404, "engine_not_found")
        assert json.loads(answer.body)["error"]["hint"] == f"did you mean {near}?"
    assert on.instances.asked == []


@staged()
async def test_an_unknown_engine_is_refused_from_the_head_alone(on: Stage) -> None:
    wire = await on.connect()
    await wire.send(on.request(path="/engines/vlm/v1/completions")[: -len(CHAT)])
    assert (await wire.message()).status == 404


@staged()
async def test_the_answer_to_a_head_has_no_body_for_an_unknown_engine_either(on: Stage) -> None:
    wire = await on.connect()
    await wire.send(on.request(method="HEAD", path="/engines/vlm/v1/completions"))
    assert (await wire.message(bodyless=True)).status == 404
    await wire.send(on.request())
    assert (await wire.message()).body == REPLY


@staged()
async def test_an_engine_is_looked_up_once(on: Stage) -> None:
    wire = await on.connect()
    for path in ("/engines/vllm:cuda/v1/completions", "/engines/any:cpu/v1/completions"):
        for _ in range(3):
            await wire.send(on.request(path=path))
            assert (await wire.message()).body == REPLY
    assert on.instances.looked_up == ["vllm:cuda", "any:cpu"]


@staged()
async def test_methods(on: Stage) -> None:
    wire = await on.connect()
    for method in ("GET", "DELETE"):
        await wire.send(on.request(method=method))
        answer = await wire.message()
        assert (answer.status, code(answer)) == (405, "method_not_allowed")
        assert "POST" in answer.headers["allow"]
    await wire.send(on.request(method="HEAD"))
    assert (await wire.message(bodyless=True)).status == 405
    await wire.send(on.request())
    assert (await wire.message()).body == REPLY


@staged()
async def test_connect_is_no_way_around(on: Stage) -> None:
    answer = await on.ask(b"CONNECT localhost:1 HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert answer.status == 405


@staged(max_body=2048)
async def test_a_body_announced_too_large_is_refused_unread(on: Stage) -> None:
    wire = await on.connect()
    request = on.request(b'{"model":"ai/demo","x":"' + b"x" * 1_000_000 + b'"}')
    await wire.send(request[:400])
    answer = await wire.message()
    assert (answer.status, code(answer)) == (413, "body_too_large")
    assert answer.headers["connection"] == "close"
    assert await wire.ended()


@staged(max_body=2048)
async def test_a_refusal_reaches_a_client_that_is_still_sending(on: Stage) -> None:
    wire = await on.connect()
    wire.writer.write(on.request(b"x" * 3_000_000))
    assert (await wire.message()).status == 413
    await wire.writer.drain()


@staged(max_body=2048)
async def test_a_body_that_grows_too_large(on: Stage) -> None:
    wire = await on.connect()
    head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    await wire.send(head.encode() + b"400\r\n" + b"x" * 0x400 + b"\r\n" + b"800\r\n" + b"x" * 0x800)
    answer = await wire.message()
    assert (answer.status, code(answer)) == (413, "body_too_large")
    assert await wire.ended()


@staged(max_body=2048)
async def test_a_body_of_just_the_limit(on: Stage) -> None:
    body = b'{"model":"ai/demo","x":"' + b"x" * 2022 + b'"}'
    assert len(body) == 2048
    assert (await on.ask(on.request(body))).status == 200


@staged()
async def test_expecting_clients_hear_of_a_refusal_before_they_send(on: Stage) -> None:
    wire = await on.connect()
    request = on.request(host="evil.example", more="expect: 100-continue\r\n")
    await wire.send(request[: -len(CHAT)])
    assert (await wire.message()).status == 403


@staged()
async def test_foreign_hosts_and_origins(on: Stage) -> None:
    for request in (
        on.request(host="evil.example"),
        on.request(more="origin: http://evil.example\r\n"),
        on.request(method="GET", path="/v1/models", host="evil.example"),
        on.request(method="GET", path="/v1/models", more="origin: http://evil.example\r\n"),
    ):
        answer = await on.ask(request)
        assert (answer.status, code(answer)) == (403, "forbidden")
        assert "access-control-allow-origin" not in answer.headers
    assert on.engine.requests == []


@staged()
async def test_what_is_not_http(on: Stage) -> None:
    answer = await on.ask(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
    assert (answer.status, code(answer)) == (400, "bad_input")


@staged()
async def test_garbage_behind_a_request_does_not_spoil_its_answer(on: Stage) -> None:
    wire = await on.connect()
    on.instances.loaded.clear()
    await wire.send(on.request())
    await on.instances.waiters(1)
    await wire.send(b"\x00garbage\r\n\r\n")
    on.instances.loaded.set()
    answer = await wire.message()
    assert (answer.status, answer.body) == (200, REPLY)
    assert await wire.ended()


@staged()
async def test_broken_chunks_in_an_upload(on: Stage) -> None:
    head = "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    answer = await on.ask(head.encode() + b"zz\r\n")
    assert answer.status == 400


@staged()
async def test_smuggled_lengths(on: Stage) -> None:
    both = "transfer-encoding: chunked\r\n"
    answer = await on.ask(on.request(more=both))
    assert answer.status == 400
    assert on.engine.requests == []


@staged()
async def test_an_endless_head(on: Stage) -> None:
    wire = await on.connect()
    await wire.send(b"POST /v1/completions HTTP/1.1\r\nx: ")
    for _ in range(40):
        wire.writer.write(b"x" * (MAX_HEAD // 4))
    assert (await wire.message()).status == 400
    assert await wire.ended()


@staged()
async def test_slow_clients_are_sent_away(on: Stage) -> None:
    gateway = on.protocol.gateway
    half_head, half_body, idle = [await on.connect() for _ in range(3)]
    await half_head.send(b"POST /v1/comp")
    await half_body.send(on.request()[:-4])
    await idle.send(on.request())
    assert (await idle.message()).status == 200
    gateway.advance(6)
    assert await idle.ended()
    gateway.advance(30)
    assert await half_head.ended()
    gateway.advance(60)
    assert await half_body.ended()


@staged()
async def test_a_load_that_fails_says_why(on: Stage) -> None:
    async def fail(engine: object, model: object, mode: object) -> None:
        raise EngineFailed("it died while loading", log=["no memory"])

    on.instances.loaded.clear()
    on.instances.acquire = fail  # type: ignore[method-assign, assignment]
    answer = await on.ask(on.request())
    assert answer.status == 502
    assert json.loads(answer.body)["error"]["log"] == ["no memory"]


@staged()
async def test_nothing_is_answered_behind_a_refusal(on: Stage) -> None:
    wire = await on.connect()
    await wire.send(on.request(host="evil.example") + on.request())
    assert (await wire.message()).status == 403
    assert await wire.ended()
    assert on.engine.requests == []


@staged()
async def test_a_refusal_waits_for_its_turn(on: Stage) -> None:
    wire = await on.connect()
    on.instances.loaded.clear()
    await wire.send(on.request() + on.request(path="/engines/vlm/v1/completions"))
    await on.instances.waiters(1)
    on.instances.loaded.set()
    assert (await wire.message()).body == REPLY
    assert (await wire.message()).status == 404
    assert await wire.ended()
