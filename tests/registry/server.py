"""A small registry that enforces scopes and misbehaves on request. Every request is kept.

`python -m tests.registry.server` serves one from a process of its own.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.registry import answers
from tests.registry.content import Content, Generated, digest_of
from tests.registry.exchange import Exchange
from tests.registry.records import Ledger, Request
from tests.registry.storage import Storage, StorageHandler
from tests.registry.throttle import Throttle
from tests.registry.uploads import Upload

__all__ = ["IDENTITY", "PASSWORD", "USER", "Fault", "Handler", "Registry", "digest_of", "running"]

USER, PASSWORD, IDENTITY = "anna", "s3cret", "identity-token"


Fault = Callable[["Handler"], bool]
"""Answers in place of the registry, or leaves it to do so by returning False."""


@dataclass
class Registry:
    """`auth` is empty, `basic` or `bearer`; a fault serves one request, in their order.

    Blobs belong to every repository, but where `separate` to those that they were uploaded or
    mounted into. `storage` holds blobs at another address. `min_chunk` is the least size of a
    chunk that is not the last, `page` how many names one listing gives.
    """

    auth: str = ""
    realm: str = ""
    anonymous: bool = True
    separate: bool = False
    min_chunk: int = 0
    page: int = 100
    storage: Storage | None = None
    throttle: Throttle = field(default_factory=Throttle)
    port: int = 0
    blobs: dict[str, bytes | Content] = field(default_factory=dict)
    links: set[tuple[str, str]] = field(default_factory=set)
    manifests: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[int, Upload] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    served: Ledger = field(default_factory=Ledger)
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    lasting: list[tuple[str, Fault]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)
    folder: Path = Path()

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def add_blob(self, content: bytes) -> str:
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def add_generated(self, size: int, seed: str = "") -> str:
        """A blob of any size that takes no room."""
        content = Generated(size, seed)
        self.blobs[content.digest] = content
        return content.digest

    def seen(self, method: str, pattern: str) -> list[Request]:
        return [r for r in self.requests if r.method == method and re.search(pattern, r.path)]


class Handler(Exchange):
    """One connection. The verbs stand in `answers`, bodies and their faults in `exchange`."""

    registry: Registry

    def handle_any(self) -> None:
        self.begin(self.registry.throttle)
        with self.breaking_off():
            request = self._request()
            with self.registry.lock:
                self.registry.requests.append(request)
                fault = self._fault(f"{self.command} {request.path}")
            if not (fault and fault(self)):
                self._respond(request)
            self.drain()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

    def _request(self) -> Request:
        parts = urlsplit(self.path)
        is_upload = "/blobs/uploads/" in parts.path
        return Request(
            self.command,
            parts.path,
            parts.query,
            self.headers.get("Authorization", ""),
            self.headers.get("Range", ""),
            b"" if is_upload else b"".join(self.incoming()),
        )

    def _respond(self, request: Request) -> None:
        if request.path == "/token":
            self._token(request)
        elif self._allowed(request):
            answers.serve(self, request)

    def _fault(self, line: str) -> Fault | None:
        for number, (pattern, fault) in enumerate(self.registry.faults):
            if re.search(pattern, line):
                del self.registry.faults[number]
                return fault
        return next((f for pattern, f in self.registry.lasting if re.search(pattern, line)), None)

    def _token(self, request: Request) -> None:
        form = parse_qs(request.body.decode() if request.method == "POST" else request.query)
        known = request.authorization == _basic() or form.get("refresh_token") == [IDENTITY]
        wrong = bool(request.authorization or form.get("refresh_token")) and not known
        if wrong or (not known and not self.registry.anonymous):
            self.answer(401, b"{}")
            return
        with self.registry.lock:
            token = f"{len(self.registry.requests)}|{' '.join(form.get('scope', []))}"
            self.registry.tokens.add(token)
        self.answer(200, json.dumps({"token": token}).encode())

    def _allowed(self, request: Request) -> bool:
        if not self.registry.auth:
            return True
        if self.registry.auth == "basic":
            if request.authorization == _basic():
                return True
            self.answer(401, headers={"WWW-Authenticate": 'Basic realm="here"'})
            return False
        needed = _scopes(request)
        token = request.authorization.removeprefix("Bearer ")
        granted = token.partition("|")[2].split()
        known = token in self.registry.tokens
        if known and all(any(g.startswith(scope) for g in granted) for scope in needed):
            return True
        realm = self.registry.realm or f"http://{self.registry.address}/token"
        challenge = f'Bearer realm="{realm}",service="test"'
        challenge += f',scope="{" ".join(needed)}"' if needed else ""
        self.answer(401, headers={"WWW-Authenticate": challenge})
        return False


def _basic() -> str:
    return f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"


def _scopes(request: Request) -> list[str]:
    """What a token must grant; for a mount also to read the blob where it lies."""
    if request.path == "/v2/_catalog":
        return ["registry:catalog:*"]
    match = re.fullmatch(r"/v2/(.+)/(?:blobs|manifests|tags)/.*", request.path)
    if not match:
        return []
    actions = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}.get(request.method, "pull,push")
    source = parse_qs(request.query).get("from", [])
    return [f"repository:{match[1]}:{actions}", *(f"repository:{name}:pull" for name in source)]


class Server(ThreadingHTTPServer):
    """Threads that end with the server, whatever their clients do."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        self._open: set[socket.socket] = set()

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are part of the tests."""

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401 - socketserver's own
        self._open.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        for connection in list(self._open):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue  # its thread was quicker


@contextmanager
def running(registry: Registry, tls: ssl.SSLContext | None = None) -> Iterator[Registry]:
    """Serves on a port of its own until the block ends."""
    with ExitStack() as stack:
        registry.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if registry.storage:
            registry.storage.blobs = registry.blobs
            registry.storage.served = registry.served
            registry.storage.throttle = registry.throttle
            stored = type("Stored", (StorageHandler,), {"storage": registry.storage})
            registry.storage.port = stack.enter_context(serving(stored, None))
        bound = type("Bound", (Handler,), {"registry": registry})
        registry.port = stack.enter_context(serving(bound, tls))
        try:
            yield registry
        finally:
            registry.throttle.lift()
            for upload in registry.uploads.values():
                upload.forget()


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None) -> Iterator[int]:
    with Server(handler) as server:
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
            server.hang_up()


def main() -> None:
    """Serves an empty registry, whose address goes to standard output, until standard input
    ends."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--auth", default="", choices=("", "basic", "bearer"))
    parser.add_argument("--rate", type=int, default=0, help="bytes a second, over all connections")
    arguments = parser.parse_args()
    registry = Registry(auth=arguments.auth, throttle=Throttle(arguments.rate))
    with running(registry):
        print(registry.address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
