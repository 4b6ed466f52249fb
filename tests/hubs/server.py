"""A stand-in for Hugging Face and ModelScope: listings, commits, access and bytes, as the real
ones answer, and storage on another host. Every request is kept."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, unquote, urlsplit

from tests.registry.content import Content, content_of, digest_of
from tests.registry.exchange import Exchange
from tests.registry.records import Request
from tests.registry.server import serving
from tests.registry.storage import Storage, StorageHandler
from tests.registry.throttle import Throttle

TOKEN = "hf_secret"
MODIFIED = "2026-03-01T12:00:00.000Z"
MODIFIED_SECONDS = 1772366400
LARGE = (".gguf", ".safetensors", ".bin", ".dduf", ".pth", ".onnx")

Files = Mapping[str, bytes | Content]
Fault = Callable[[Exchange], bool]


@dataclass
class Repository:
    """`commits` are in their order, the last one is the main branch's. `large` names the endings
    of what lies in Git LFS. `gated` hides its bytes from strangers, `private` all of it."""

    commits: dict[str, Files]
    gated: bool = False
    private: bool = False
    large: tuple[str, ...] = LARGE
    downloads: int = 0
    likes: int = 0
    tags: tuple[str, ...] = ()
    parameters: int = 0

    @property
    def head(self) -> str:
        return list(self.commits)[-1]

    def commit(self, revision: str) -> str | None:
        """What a branch's name or a commit's stands for."""
        if revision in {"main", "master"}:
            return self.head
        return revision if revision in self.commits else None


@dataclass
class Hub:
    """A fault serves one request, `METHOD /path` matching its pattern; a lasting one all."""

    page: int = 1000
    port: int = 0
    repositories: dict[str, Repository] = field(default_factory=dict)
    storage: Storage = field(default_factory=Storage)
    requests: list[Request] = field(default_factory=list)
    faults: list[tuple[str, Fault]] = field(default_factory=list)
    lasting: list[tuple[str, Fault]] = field(default_factory=list)
    throttle: Throttle = field(default_factory=Throttle)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def endpoint(self) -> str:
        return f"http://localhost:{self.port}"

    def add(self, name: str, files: Files, **more: object) -> Repository:
        """A repository of one commit."""
        repository = Repository({commit_of(name): files})
        for key, value in more.items():
            setattr(repository, key, value)
        self.repositories[name] = repository
        return repository

    def seen(self, pattern: str) -> list[Request]:
        return [r for r in self.requests if re.search(pattern, f"{r.method} {r.path}?{r.query}")]


def commit_of(name: str) -> str:
    """A commit's name made of any text."""
    return hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()


def git_id(content: bytes) -> str:
    """As `git hash-object` names a file."""
    head = f"blob {len(content)}".encode()
    return hashlib.sha1(head + b"\0" + content, usedforsecurity=False).hexdigest()


class Handler(Exchange):
    """One connection to the hub."""

    hub: Hub

    def do_GET(self) -> None:  # noqa: N802 - http.server's own
        self.begin(self.hub.throttle)
        parts = urlsplit(self.path)
        request = Request(
            self.command,
            unquote(parts.path),
            parts.query,
            self.headers.get("Authorization", ""),
            self.headers.get("Range", ""),
            b"",
        )
        with self.hub.lock:
            self.hub.requests.append(request)
            fault = self._fault(f"{self.command} {request.path}")
        with self.breaking_off():
            if not (fault and fault(self)):
                self._serve(request, parse_qs(request.query))

    def _fault(self, line: str) -> Fault | None:
        for number, (pattern, fault) in enumerate(self.hub.faults):
            if re.search(pattern, line):
                del self.hub.faults[number]
                return fault
        return next((f for pattern, f in self.hub.lasting if re.search(pattern, line)), None)

    def _serve(self, request: Request, query: dict[str, list[str]]) -> None:
        routes: tuple[tuple[str, Callable[..., None]], ...] = (
            (r"/api/models", self._search),
            (r"/api/models/([^/]+/[^/]+)", self._info),
            (r"/api/models/([^/]+/[^/]+)/revision/(.+)", self._info),
            (r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", self._tree),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._resolve),
            (r"/api/v1/models/([^/]+/[^/]+)/repo/files", self._modelscope_files),
            (r"/api/v1/models/([^/]+/[^/]+)/repo", self._modelscope_file),
        )
        for pattern, route in routes:
            if match := re.fullmatch(pattern, request.path):
                route(query, *match.groups())
                return
        self.answer(404, b"Not Found", {"Content-Type": "text/plain"})

    def _search(self, query: dict[str, list[str]]) -> None:
        term, wanted = query.get("search", [""])[0], query.get("filter", [])
        found = [
            (name, repository)
            for name, repository in self.hub.repositories.items()
            if term.lower() in name.lower() and all(tag in repository.tags for tag in wanted)
        ]
        found.sort(key=lambda entry: -entry[1].downloads)
        self._json(
            [
                {
                    "id": name,
                    "downloads": repository.downloads,
                    "likes": repository.likes,
                    "pipeline_tag": "text-generation",
                    "gated": "manual" if repository.gated else False,
                    "gguf": {"total": repository.parameters} if "gguf" in wanted else None,
                }
                for name, repository in found[: int(query["limit"][0])]
            ]
        )

    def _info(self, _: dict[str, list[str]], name: str, revision: str = "main") -> None:
        repository = self._readable(name)
        if not repository:
            return
        commit = repository.commit(revision)
        if commit is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        siblings = [{"rfilename": path} for path in repository.commits[commit]]
        self._json({"id": name, "sha": commit, "lastModified": MODIFIED, "siblings": siblings})

    def _tree(self, query: dict[str, list[str]], name: str, revision: str) -> None:
        repository = self._readable(name)
        if not repository:
            return
        files = repository.commits[repository.commit(revision) or ""]
        folders = sorted({path.rpartition("/")[0] for path in files if "/" in path})
        entries = [{"type": "directory", "oid": git_id(b""), "size": 0, "path": f} for f in folders]
        entries += [self._entry(repository, path, content) for path, content in files.items()]
        start = int(query.get("cursor", ["0"])[0])
        end = start + self.hub.page
        headers = {}
        if end < len(entries):
            more = f"{self.hub.endpoint}{quote(urlsplit(self.path).path)}?cursor={end}"
            headers["Link"] = f'<{more}>; rel="next"'
        self._json(entries[start:end], headers)

    def _entry(self, repository: Repository, path: str, blob: bytes | Content) -> dict[str, object]:
        content = content_of(blob)
        entry: dict[str, object] = {"type": "file", "path": path, "size": content.size}
        if not path.endswith(repository.large):
            return {**entry, "oid": git_id(content.read(0, content.size))}
        oid = self._store(blob).removeprefix("sha256:")
        lfs = {"oid": oid, "size": content.size, "pointerSize": 134}
        return {**entry, "oid": git_id(oid.encode()), "lfs": lfs, "xetHash": oid[::-1]}

    def _resolve(self, _: dict[str, list[str]], name: str, revision: str, path: str) -> None:
        repository = self._readable(name, bytes_too=True)
        if not repository:
            return
        commit = repository.commit(revision)
        files = repository.commits[commit or repository.head]
        if path not in files:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        self._send(repository, files[path], path, {"X-Repo-Commit": commit or ""})

    def _send(
        self, repository: Repository, blob: bytes | Content, path: str, headers: dict[str, str]
    ) -> None:
        content = content_of(blob)
        if path.endswith(repository.large):
            digest = self._store(blob)
            oid = digest.removeprefix("sha256:")
            more = {"X-Linked-Size": str(content.size), "X-Linked-Etag": f'"{oid}"'}
            location = {"Location": self.hub.storage.address_of(digest)}
            self.answer(302, b"Found. Redirecting", {**headers, **more, **location})
            return
        self.send(blob, lambda start, end: None)

    def _modelscope_files(self, query: dict[str, list[str]], name: str) -> None:
        repository = self._readable(name)
        if not repository:
            return
        commit = repository.commit(query["Revision"][0])
        files = None
        if commit:
            files = [
                {"Path": folder, "Name": folder, "Type": "tree", "Size": 0}
                for folder in {path.rpartition("/")[0] for path in repository.commits[commit]}
                - {""}
            ]
            files += [
                {
                    "Path": path,
                    "Name": path.rpartition("/")[2],
                    "Type": "blob",
                    "Size": content_of(blob).size,
                    "Sha256": self._store(blob).removeprefix("sha256:"),
                    "IsLFS": path.endswith(repository.large),
                    "Revision": commit,
                    "CommittedDate": MODIFIED_SECONDS,
                }
                for path, blob in repository.commits[commit].items()
            ]
        last = {"Id": "", "ShortId": (commit or "")[:8], "CommittedDate": MODIFIED_SECONDS}
        self._json(
            {"Code": 200, "Success": True, "Data": {"Files": files, "LatestCommitter": last}}
        )

    def _modelscope_file(self, query: dict[str, list[str]], name: str) -> None:
        repository = self._readable(name, bytes_too=True)
        if not repository:
            return
        path = query["FilePath"][0]
        commit = repository.commit(query["Revision"][0]) or repository.head
        self._send(repository, repository.commits[commit][path], path, {})

    def _readable(self, name: str, *, bytes_too: bool = False) -> Repository | None:
        """Answers itself where the caller may not read it. The hub does not tell strangers what
        there is."""
        known = self.headers.get("Authorization", "")
        repository = self.hub.repositories.get(name)
        if known and known != f"Bearer {TOKEN}":
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif repository is None or (repository.private and not known):
            message = "Repository not found" if known else "Invalid username or password."
            self._refuse(404 if known else 401, "RepoNotFound", message)
        elif repository.gated and bytes_too and not known:
            self._refuse(401, "GatedRepo", f"Access to model {name} is restricted.")
        else:
            return repository
        return None

    def _refuse(self, status: int, code: str, message: str) -> None:
        headers = {"X-Error-Code": code} if code else {}
        self.answer(status, b"", {**headers, "X-Error-Message": message})

    def _store(self, blob: bytes | Content) -> str:
        digest = digest_of(blob) if isinstance(blob, bytes) else str(blob.digest)  # type: ignore[attr-defined]
        self.hub.storage.blobs[digest] = blob
        return digest

    def _json(self, document: object, headers: dict[str, str] | None = None) -> None:
        kind = {"Content-Type": "application/json; charset=utf-8"}
        self.answer(200, json.dumps(document).encode(), {**kind, **(headers or {})})


@contextmanager
def running(hub: Hub) -> Iterator[Hub]:
    """Serves on two ports of its own until the block ends."""
    with ExitStack() as stack:
        hub.storage.throttle = hub.throttle
        stored = type("Stored", (StorageHandler,), {"storage": hub.storage})
        hub.storage.port = stack.enter_context(serving(stored, None))
        hub.port = stack.enter_context(serving(type("Bound", (Handler,), {"hub": hub}), None))
        try:
            yield hub
        finally:
            hub.throttle.lift()
