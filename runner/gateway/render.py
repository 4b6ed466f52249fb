"""The one renderer of HTTP errors: OpenAI's envelope, for the data plane and the control plane."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

import msgspec

from runner.errors import BadReference, MissingModel, ModelNotFound, RunnerError

Header = tuple[bytes, bytes]

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    412: "unsupported_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    502: "engine_error",
    503: "unavailable_error",
    504: "timeout_error",
    507: "unavailable_error",
}
"""The envelope's `type`, from the status alone; anything else is a `server_error`."""

PARAMETERS = {
    BadReference.code: "model",
    MissingModel.code: "model",
    ModelNotFound.code: "model",
}
"""The request's field that an error code speaks of."""

METHODS = b"POST, OPTIONS"


def envelope(error: RunnerError) -> dict[str, dict[str, object]]:
    """The envelope as plain values; `hint` and `log` only where there are any."""
    fields: dict[str, object] = {
        "message": error.message,
        "type": TYPES.get(error.status, "server_error"),
        "param": PARAMETERS.get(error.code),
        "code": error.code,
    }
    if error.hint:
        fields["hint"] = error.hint
    if error.log:
        fields["log"] = error.log
    return {"error": fields}


def error_body(error: RunnerError) -> bytes:
    """The envelope as JSON."""
    return msgspec.json.encode(envelope(error))


def event(error: RunnerError) -> bytes:
    """The envelope as one server-sent event."""
    return b"data: " + error_body(error) + b"\n\n"


def headers(error: RunnerError) -> list[Header]:
    """The headers that go with `error_body(error)`, its length not among them."""
    named = [(b"content-type", b"application/json")]
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        named.append((b"allow", METHODS))
    return named


def response(
    error: RunnerError, *, more: Iterable[Header] = (), close: bool = False, bodyless: bool = False
) -> bytes:
    """A whole HTTP/1.1 response; `bodyless` for the answer to a HEAD."""
    content = error_body(error)
    lines = [
        status_line(error.status),
        *(b"%b: %b\r\n" % header for header in (*more, *headers(error))),
        b"content-length: %d\r\n" % len(content),
        b"connection: close\r\n\r\n" if close else b"\r\n",
    ]
    if not bodyless:
        lines.append(content)
    return b"".join(lines)


def status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()
