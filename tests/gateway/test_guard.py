from __future__ import annotations

import asyncio
from typing import Any

import pytest

from runner.errors import Forbidden
from runner.gateway.guard import Guard, GuardMiddleware
from runner.settings import Settings

GUARD = Guard.allowing(["https://chat.example/"])


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"localhost:12434",
        b"LOCALHOST:1",
        b"127.0.0.1:12434",
        b"[::1]",
        b"[::1]:12434",
        b"host.docker.internal:12434",
        b"model-runner.docker.internal",
    ],
)
def test_this_machines_names(host: bytes) -> None:
    GUARD.check_host(host)


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"evil.example",
        b"evil.example:12434",
        b"localhost.evil.example",
        b"127.0.0.1.evil.example",
        b"127.0.0.2",
        b"localhost:",
        b"localhost:123456",
        b"localhost@evil.example",
        b"::1",
        b"xhost.docker.internal",
        b"hostxdocker.internal",
        b"localhost\n",
    ],
)
def test_other_hosts(host: bytes) -> None:
    with pytest.raises(Forbidden):
        GUARD.check_host(host)


@pytest.mark.parametrize(
    "origin",
    [
        b"http://localhost",
        b"http://localhost:3000",
        b"https://127.0.0.1:8443",
        b"http://[::1]:3000",
        b"https://chat.example",
    ],
)
def test_allowed_origins(origin: bytes) -> None:
    GUARD.check_origin(origin)


@pytest.mark.parametrize(
    "origin",
    [
        b"null",
        b"http://evil.example",
        b"http://chat.example",
        b"https://chat.example:8443",
        b"http://localhost.evil.example",
        b"http://host.docker.internal",
        b"file://localhost",
        b"http://localhost:3000/x",
    ],
)
def test_other_origins(origin: bytes) -> None:
    with pytest.raises(Forbidden) as caught:
        GUARD.check_origin(origin)
    assert "allowed_origins" in caught.value.hint


def ask(
    *headers: tuple[bytes, bytes], method: str = "GET", unix: bool = False
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, headers and body that an application answers from behind the guard."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
        await send({"type": "http.response.body", "body": b"inside"})

    async def receive() -> Any:  # noqa: ANN401
        raise AssertionError

    async def send(message: Any) -> None:  # noqa: ANN401
        sent.append(message)

    server = ("/run/runner.sock", None) if unix else ("127.0.0.1", 12434)
    scope = {"type": "http", "method": method, "headers": list(headers), "server": server}
    settings = Settings(allowed_origins=("https://chat.example",))
    asyncio.run(GuardMiddleware(app, settings=settings)(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"]


def test_the_application_behind_the_guard() -> None:
    assert ask((b"host", b"localhost:12434")) == (200, {b"x": b"y"}, b"inside")
    assert ask()[0] == 200


@pytest.mark.parametrize("name", [b"host", b"origin"])
def test_a_foreign_page_is_refused(name: bytes) -> None:
    status, headers, body = ask((name, b"evil.example"))
    assert status == 403
    assert headers[b"content-length"] == b"%d" % len(body)
    assert b'"code":"forbidden"' in body


def test_any_host_on_the_unix_socket_but_not_any_origin() -> None:
    assert ask((b"host", b"whatever"), unix=True)[0] == 200
    assert ask((b"origin", b"http://evil.example"), unix=True)[0] == 403


def test_an_allowed_page_may_read_the_answer() -> None:
    status, headers, _ = ask((b"origin", b"https://chat.example"))
    assert status == 200
    assert headers[b"access-control-allow-origin"] == b"https://chat.example"
    assert headers[b"vary"] == b"origin"
    assert headers[b"x"] == b"y"


def test_preflight() -> None:
    status, headers, body = ask(
        (b"origin", b"http://localhost:3000"),
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", b"authorization,x-stainless-os"),
        (b"access-control-request-private-network", b"true"),
        method="OPTIONS",
    )
    assert (status, body) == (204, b"")
    assert headers[b"access-control-allow-origin"] == b"http://localhost:3000"
    assert headers[b"access-control-allow-headers"] == b"authorization,x-stainless-os"
    assert headers[b"access-control-allow-private-network"] == b"true"
    assert b"POST" in headers[b"access-control-allow-methods"]


def test_a_foreign_preflight_gets_no_permission() -> None:
    status, headers, _ = ask(
        (b"origin", b"http://evil.example"),
        (b"access-control-request-method", b"POST"),
        method="OPTIONS",
    )
    assert status == 403
    assert not any(name.startswith(b"access-control") for name in headers)
