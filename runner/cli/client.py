"""The daemon as the command line sees it: HTTP over its Unix socket, light to import."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from runner.errors import DaemonNotRunning, Forbidden, RunnerError

_CONNECT_S = 5.0
Json = Any
"""A decoded JSON document."""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_CONNECT_S)
        self.sock.connect(str(self._path))
        self.sock.settimeout(self.timeout)


class Client:
    """Calls fail with DaemonNotRunning where none listens, else with the daemon's own error.

    `on_head` is given the headers of each answer, before its body is read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.on_head: Callable[[http.client.HTTPMessage], object] | None = None

    def answers(self) -> bool:
        try:
            self.get("/version")
        except DaemonNotRunning:
            return False
        return True

    def get(self, path: str) -> Json:
        return self._json("GET", path, None)

    def post(self, path: str, body: Mapping[str, object]) -> Json:
        return self._json("POST", path, body)

    def delete(self, path: str) -> Json:
        return self._json("DELETE", path, None)

    def job(self, path: str, body: Mapping[str, object]) -> Iterator[Mapping[str, Json]]:
        """A job's JSON lines as they come; an error line is raised."""
        for line in self.lines("POST", path, body):
            told = json.loads(line)
            if told.get("type") == "error":
                raise remote_error(told, HTTPStatus.INTERNAL_SERVER_ERROR)
            yield told

    def lines(
        self, method: str, path: str, body: Mapping[str, object] | None = None
    ) -> Iterator[str]:
        """The body's lines as they come. Closing the iterator closes the connection."""
        with self._response(method, path, body) as response:
            for line in response:
                yield line.decode("utf-8", "replace").rstrip("\r\n")

    def _json(self, method: str, path: str, body: Mapping[str, object] | None) -> Json:
        with self._response(method, path, body) as response:
            raw = response.read()
        return json.loads(raw) if raw[:1] in b'{["' and raw else raw.decode()

    @contextmanager
    def _response(
        self, method: str, path: str, body: Mapping[str, object] | None
    ) -> Iterator[http.client.HTTPResponse]:
        connection = _UnixConnection(self._path, timeout=None)
        content = None if body is None else json.dumps(body)
        headers = {"Content-Type": "application/json"} if content else {}
        try:
            connection.request(method, path, content, headers)
            response = connection.getresponse()
            if response.status >= HTTPStatus.BAD_REQUEST:
                raise remote_error(_decoded(response.read()), response.status)
            if self.on_head is not None:
                self.on_head(response.headers)
            yield response
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise DaemonNotRunning(
                "the runner's daemon is not running", hint="runner start-runner"
            ) from error
        except PermissionError as error:
            raise Forbidden(
                f"{self._path} belongs to another user", hint="set RUNNER_HOME to your own folder"
            ) from error
        except (ConnectionError, http.client.HTTPException) as error:
            raise RunnerError(
                "the daemon closed the connection", hint="see `runner logs`"
            ) from error
        finally:
            connection.close()


def remote_error(document: Mapping[str, Json], status: int) -> RunnerError:
    """The daemon's error again, of its own class, so that exit statuses agree."""
    told = document.get("error", {})
    kind = _by_code(RunnerError).get(told.get("code", ""), RunnerError)
    message = told.get("message") or f"the daemon answered {status}"
    return kind(message, hint=told.get("hint", ""), log=told.get("log", ()))


def _by_code(kind: type[RunnerError]) -> dict[str, type[RunnerError]]:
    found = {kind.code: kind}
    for child in kind.__subclasses__():
        found |= _by_code(child)
    return found


def _decoded(raw: bytes) -> Mapping[str, Json]:
    try:
        document = json.loads(raw)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
