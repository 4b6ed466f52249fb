"""A small registry that enforces scopes and misbehaves on request. Every request is kept."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

USER, PASSWORD, IDENTITY = "anna", "s3cret", "identity-token"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: str
    authorization: str
    range: str
    body: bytes


Fault = Callable[["Handler"], bool]
"""Answers in place of the registry, or leaves it to do so by returning False."""


@dataclass
class Registry:
    """`auth` is empty, `basic` or `bearer`; a fault serves one request, in their order."""

    auth: str = ""
    realm: str = ""
    anonymous: bool = True
    port: int = 0
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    lasting: list[tuple[str, Fault]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    def add_blob(self, content: bytes) -> str:
        digest = digest_of(content)
        self.blobs[digest] = content
        return digest

    def seen(self, method: str, pattern: str) -> list[Request]:
        return [r for r in self.requests if r.method == method and re.search(pattern, r.path)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry: Registry

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def handle_any(self) -> None:
        parts = urlsplit(self.path)
        length = self.headers.get("Content-Length")
        self.body = self.rfile.read(int(length)) if length else self._chunked()
        request = Request(
            self.command,
            parts.path,
            parts.query,
            self.headers.get("Authorization", ""),
            self.headers.get("Range", ""),
            self.body,
        )
        with self.registry.lock:
            self.registry.requests.append(request)
            fault = self._fault(f"{self.command} {parts.path}")
        if fault and fault(self):
            return
        if parts.path == "/token":
            self._token(request)
        elif self._allowed(request):
            self._serve(request)

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = handle_any  # noqa: N815

    def answer(
        self, status: int, content: bytes = b"", headers: dict[str, str] | None = None
    ) -> bool:
        """True, so that a fault can end with it."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        return True

    def break_off(self, content: bytes, announced: int) -> bool:
        """Sends less than announced, then closes."""
        self.close_connection = True
        return self.answer(200, content, {"Content-Length": str(announced)})

    def _chunked(self) -> bytes:
        content = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return content

    def _fault(self, line: str) -> Fault | None:
        for number, (pattern, fault) in enumerate(self.registry.faults):
            if re.search(pattern, line):
                del self.registry.faults[number]
                return fault
        return next((f for pattern, f in self.registry.lasting if re.search(pattern, line)), None)

    def _token(self, request: Request) -> None:
        form = parse_qs(request.body.decode() if request.method == "POST" else request.query)
        basic = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        known = request.authorization == basic or form.get("refresh_token") == [IDENTITY]
        wrong = bool(request.authorization or form.get("refresh_token")) and not known
        if wrong or (not known and not self.registry.anonymous):
            self.answer(401, b"{}")
            return
        with self.registry.lock:
            token = f"{len(self.registry.tokens)}|{' '.join(form.get('scope', []))}"
            self.registry.tokens.add(token)
        self.answer(200, json.dumps({"token": token}).encode())

    def _allowed(self, request: Request) -> bool:
        if not self.registry.auth:
            return True
        if self.registry.auth == "basic":
            basic = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
            if request.authorization == basic:
                return True
            self.answer(401, headers={"WWW-Authenticate": 'Basic realm="here"'})
            return False
        match = re.fullmatch(r"/v2/(.+)/(?:blobs|manifests|tags)/.*", request.path)
        repository = match[1] if match else ""
        needed = "pull" if request.method in {"GET", "HEAD"} else "pull,push"
        scope = f"repository:{repository}:{needed}" if repository else ""
        token = request.authorization.removeprefix("Bearer ")
        granted = token.partition("|")[2]
        if token in self.registry.tokens and (granted.startswith(scope) or not scope):
            return True
        realm = self.registry.realm or f"http://{self.registry.address}/token"
        challenge = f'Bearer realm="{realm}",service="test"'
        challenge += f',scope="{scope}"' if scope else ""
        self.answer(401, headers={"WWW-Authenticate": challenge})
        return False

    def _serve(self, request: Request) -> None:
        registry, path = self.registry, request.path
        if path == "/v2/":
            self.answer(200, b"{}")
        elif match := re.fullmatch(r"/v2/.+/blobs/uploads/", path):
            self.answer(202, headers={"Location": f"{path}1?state=x"})
        elif match := re.fullmatch(r"/v2/.+/blobs/uploads/1", path):
            digest = parse_qs(request.query)["digest"][0]
            good = digest_of(request.body) == digest
            if good:
                registry.blobs[digest] = request.body
            self.answer(201 if good else 400)
        elif match := re.fullmatch(r"/v2/.+/blobs/(sha256:.+)", path):
            self._blob(match[1], request)
        elif match := re.fullmatch(r"/v2/(.+)/manifests/(.+)", path):
            self._manifest(f"{match[1]}/{match[2]}", request)
        else:
            self.answer(404)

    def _blob(self, digest: str, request: Request) -> None:
        content = self.registry.blobs.get(digest)
        if content is None:
            self.answer(404, b'{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown"}]}')
        elif match := re.fullmatch(r"bytes=(\d+)-", request.range):
            start = int(match[1])
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[start:], {"Content-Range": span})
        else:
            self.answer(200, content)

    def _manifest(self, name: str, request: Request) -> None:
        if request.method == "PUT":
            self.registry.manifests[name] = request.body
            digest = digest_of(request.body)
            self.answer(201, headers={"Docker-Content-Digest": digest})
            return
        content = self.registry.manifests.get(name)
        if content is None:
            self.answer(404)
        else:
            self.answer(200, content, {"Content-Type": OCI_MANIFEST})


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are part of the tests."""


@contextmanager
def running(registry: Registry, tls: ssl.SSLContext | None = None) -> Iterator[Registry]:
    """Serves on a port of its own until the block ends."""
    handler = type("Bound", (Handler,), {"registry": registry})
    with _Server(("127.0.0.1", 0), handler) as server:
        registry.port = server.server_address[1]
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()
