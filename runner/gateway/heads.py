"""Request and response heads on their way through: what is passed on and what ends here; pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from runner.errors import Forbidden
from runner.gateway import guard
from runner.gateway.guard import Guard
from runner.gateway.render import Header, status_line

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"http2-settings",
    }
)

UPGRADING = frozenset({b"connection", b"upgrade", b"http2-settings"})

NOT_FOR_ENGINES = HOP_BY_HOP | {
    b"host",
    b"content-length",
    b"content-type",  # what comes here was read as JSON, while `curl -d` calls it a form
    b"expect",
    b"accept-encoding",  # an error event must be writable into the stream as it stands
    b"origin",
    b"referer",
    b"authorization",  # credentials are for the runner; engines are other people's programs
    b"cookie",
}

ENGINE = b"x-runner-engine"
FALLBACK = b"x-runner-fallback"
"""Who answers, and, where that is not the first choice, whose place it takes and why."""
LONGEST_FALLBACK = 400

OURS_TO_SAY = HOP_BY_HOP | {b"date", b"server", ENGINE, FALLBACK}

STATUS_LINES = {status: status_line(status) for status in range(100, 1000)}

NO_CONTENT = frozenset({204, 304})


class Framing(Enum):
    """How a response's end is known."""

    LENGTH = "length"
    CHUNKED = "chunked"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class RequestHead:
    """What the headers of a request say, its Content-Length apart.

    `forwarded` are the lines for the engine; `cors` the lines for the answer to a browser.
    """

    forwarded: bytes
    chunked: bool
    expects_continue: bool
    cors: tuple[Header, ...]
    refusal: Forbidden | None


def read_request(headers: Iterable[Header], guarded_by: Guard, unix: bool) -> RequestHead:
    """`headers` have lower-case names; `unix`: they came over the Unix socket."""
    forwarded = []
    chunked = expects_continue = False
    cors: list[Header] = []
    refusal = None
    for name, value in headers:
        if name not in NOT_FOR_ENGINES:
            forwarded.append(b"%b: %b\r\n" % (name, value))
            continue
        try:
            if name == b"host" and not unix:
                guarded_by.check_host(value)
            elif name == b"origin":
                guarded_by.check_origin(value)
                cors = guard.cors(value)
        except Forbidden as error:
            refusal = error
        chunked = chunked or name == b"transfer-encoding"
        expects_continue = expects_continue or name == b"expect"
    return RequestHead(
        forwarded=b"".join(forwarded),
        chunked=chunked,
        expects_continue=expects_continue,
        cors=tuple(cors),
        refusal=refusal,
    )


def without_upgrade(method: bytes, target: bytes, headers: Iterable[Header]) -> bytes:
    """The head of a request that offered another protocol, had it not done so."""
    kept = (b"%b: %b\r\n" % header for header in headers if header[0] not in UPGRADING)
    return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, b"".join(kept))


def request_to_engine(target: bytes, forwarded: bytes, length: int) -> bytes:
    return (
        b"POST %b HTTP/1.1\r\nhost: localhost\r\n%bcontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n" % (target, forwarded, length)
    )


@dataclass(frozen=True, slots=True)
class ResponseHead:
    """What a response says, its Content-Length apart: where it has one, `framing` is LENGTH.

    `lines` are the status line and the headers that pass on, without the empty line.

    `holds_a_thread`: the server announces how long it waits for the next request. The one that
    does (cpp-httplib, in llama.cpp) waits in one of its few threads, and requests on further
    connections stand still until that time is over: 5 s.
    """

    lines: bytes
    framing: Framing
    event_stream: bool
    holds_a_thread: bool


def read_response(status: int, headers: Iterable[Header]) -> ResponseHead:
    """`headers` have lower-case names; Content-Length is not among them."""
    lines = [STATUS_LINES[status]]
    framing = Framing.LENGTH if status in NO_CONTENT else Framing.CLOSE
    event_stream = holds_a_thread = False
    for name, value in headers:
        if name == b"transfer-encoding":
            framing = Framing.CHUNKED
        elif name == b"keep-alive":
            holds_a_thread = True
        elif name not in OURS_TO_SAY and not name.startswith(b"access-control-"):
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-type":
                event_stream = value.startswith(b"text/event-stream")
    return ResponseHead(b"".join(lines), framing, event_stream, holds_a_thread)


def fallback_line(told: str) -> bytes:
    """The header for it; nothing where nothing is told. Reasons come from engines and from Docker:
    what a header can't carry is replaced, so that none ends before its time."""
    if not told:
        return b""
    plain = "".join(one if one.isprintable() else " " for one in told[:LONGEST_FALLBACK])
    return b"%b: %b\r\n" % (FALLBACK, plain.strip().encode("latin-1", "replace"))


def response_to_client(
    lines: bytes,
    more: bytes,
    cors: Sequence[Header],
    *,
    length: bytes | None,
    chunked: bool,
    keep_alive: bool,
) -> bytes:
    """The head for the client; `chunked`: so is the body that follows it."""
    all_lines = [lines, more]
    if cors:
        all_lines.extend(b"%b: %b\r\n" % header for header in cors)
    if length is not None:
        all_lines.append(b"content-length: %b\r\n" % length)
    elif chunked:
        all_lines.append(b"transfer-encoding: chunked\r\n")
    all_lines.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    return b"".join(all_lines)
