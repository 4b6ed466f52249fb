from __future__ import annotations

import json

import pytest

from runner import errors
from runner.gateway import endings, render


def every_error() -> list[type[errors.RunnerError]]:
    found, waiting = [], [errors.RunnerError]
    while waiting:
        found.append(waiting.pop())
        waiting.extend(found[-1].__subclasses__())
    return found


def test_the_envelope() -> None:
    error = errors.EngineFailed("it died", hint="look", log=["one", "two"])
    assert json.loads(render.error_body(error)) == {
        "error": {
            "message": "it died",
            "type": "engine_error",
            "param": None,
            "code": "engine_failed",
            "hint": "look",
            "log": ["one", "two"],
        }
    }


def test_what_is_not_there_is_not_said() -> None:
    fields = render.envelope(errors.ModelNotFound("no such model"))["error"]
    assert fields == {
        "message": "no such model",
        "type": "not_found_error",
        "param": "model",
        "code": "model_not_found",
    }


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
def test_each_error_of_the_tree_has_a_type(kind: type[errors.RunnerError]) -> None:
    rendered = render.envelope(kind("x"))["error"]["type"]
    assert kind.status in {500, *render.TYPES}
    assert rendered == render.TYPES.get(kind.status, "server_error")


def test_a_whole_response() -> None:
    raw = render.response(errors.MethodNotAllowed("no"), more=[(b"date", b"now")], close=True)
    head, body = raw.split(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 405 Method Not Allowed"
    assert set(lines[1:]) == {
        b"date: now",
        b"content-type: application/json",
        b"allow: POST, OPTIONS",
        b"content-length: %d" % len(body),
        b"connection: close",
    }
    bodyless = render.response(errors.MethodNotAllowed("no"), bodyless=True)
    assert bodyless.endswith(b"\r\n\r\n")
    assert b"content-length: %d" % len(body) in bodyless


def test_an_error_event_begins_on_its_own_line() -> None:
    error = errors.EngineFailed("it died")
    whole = endings.error_event(error, b"data: {}\n\n", as_chunk=False)
    assert whole == render.event(error)
    assert whole.startswith(b"data: {")
    assert whole.endswith(b"}\n\n")
    half = endings.error_event(error, b'data: {"ha', as_chunk=False)
    assert half == b"\n\n" + whole
    framed = endings.error_event(error, b"a\r\ndata: {}\n\n\r\n", as_chunk=True)
    assert framed == b"%x\r\n%b\r\n" % (len(whole), whole)
