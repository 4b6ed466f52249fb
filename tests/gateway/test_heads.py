from __future__ import annotations

import pytest

from runner.cli.chat import FALLBACK_HEADER
from runner.gateway.guard import Guard, cors
from runner.gateway.heads import (
    ENGINE,
    FALLBACK,
    LONGEST_FALLBACK,
    Framing,
    fallback_line,
    read_request,
    read_response,
    request_to_engine,
    response_to_client,
    without_upgrade,
)


def test_engines_get_neither_credentials_nor_hop_by_hop_headers() -> None:
    head = read_request(
        [
            (b"host", b"localhost"),
            (b"authorization", b"Bearer secret"),
            (b"cookie", b"a=b"),
            (b"connection", b"keep-alive"),
            (b"te", b"trailers"),
            (b"accept-encoding", b"gzip"),
            (b"content-type", b"application/x-www-form-urlencoded"),
            (b"x-request-id", b"7"),
        ],
        Guard(),
        unix=False,
    )
    assert head.forwarded == b"x-request-id: 7\r\n"
    assert not head.chunked
    assert head.refusal is None
    assert request_to_engine(b"/v1/completions", head.forwarded, 3) == (
        b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"x-request-id: 7\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n"
    )


def test_one_bad_host_of_two_is_enough() -> None:
    headers = [(b"host", b"localhost"), (b"host", b"evil.example"), (b"origin", b"http://[::1]")]
    assert read_request(headers, Guard(), unix=False).refusal is not None
    assert read_request(headers, Guard(), unix=True).refusal is None


def test_what_a_response_says() -> None:
    head = read_response(
        200,
        [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"transfer-encoding", b"chunked"),
            (b"access-control-allow-origin", b"*"),
            (b"keep-alive", b"timeout=5"),
            (b"server", b"llama.cpp"),
        ],
    )
    assert head.lines == b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    assert (head.framing, head.event_stream) == (Framing.CHUNKED, True)
    assert head.holds_a_thread
    assert not read_response(200, []).holds_a_thread
    assert read_response(204, []).framing is Framing.LENGTH
    assert read_response(200, []).framing is Framing.CLOSE


def test_an_engine_can_not_speak_for_the_runner() -> None:
    told = [(ENGINE, b"other"), (FALLBACK, b"lies"), (b"x-request-id", b"1")]
    assert read_response(200, told).lines == b"HTTP/1.1 200 OK\r\nx-request-id: 1\r\n"


@pytest.mark.parametrize(
    ("told", "value"),
    [
        ("vllm/cpu did not start (é): y", "vllm/cpu did not start (é): y".encode("latin-1")),
        ("a\r\nb\x00c\x85d\u2028e", b"a  b c d e"),
        ("naïve 日本…", b"na\xefve ???"),
        ("x" * 1000, b"x" * LONGEST_FALLBACK),
    ],
)
def test_a_fallback_is_told_by_a_header_that_holds(told: str, value: bytes) -> None:
    assert fallback_line(told) == b"x-runner-fallback: " + value + b"\r\n"


def test_nothing_is_told_where_there_is_nothing_to_tell() -> None:
    assert fallback_line("") == b""


def test_pages_and_the_command_line_may_read_what_is_told() -> None:
    exposed = dict(cors(b"http://localhost"))[b"access-control-expose-headers"]
    assert exposed.split(b", ") == [ENGINE, FALLBACK]
    assert FALLBACK_HEADER.encode() == FALLBACK


def test_the_head_for_the_client() -> None:
    lines, own = b"HTTP/1.1 200 OK\r\n", b"x-runner-engine: vllm\r\n"
    cors = [(b"vary", b"origin")]
    assert response_to_client(lines, own, cors, length=None, chunked=True, keep_alive=True) == (
        b"HTTP/1.1 200 OK\r\nx-runner-engine: vllm\r\nvary: origin\r\n"
        b"transfer-encoding: chunked\r\n\r\n"
    )
    assert response_to_client(lines, own, [], length=b"7", chunked=False, keep_alive=False) == (
        b"HTTP/1.1 200 OK\r\nx-runner-engine: vllm\r\ncontent-length: 7\r\n"
        b"connection: close\r\n\r\n"
    )


def test_an_upgrade_taken_back() -> None:
    headers = [(b"upgrade", b"h2c"), (b"connection", b"Upgrade"), (b"content-length", b"2")]
    assert (
        without_upgrade(b"POST", b"/x", headers) == b"POST /x HTTP/1.1\r\ncontent-length: 2\r\n\r\n"
    )
