"""Where Docker and Podman keep logins: their files, and what stands in them for a registry."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from runner.registry.reference import DOCKER_HUB, DOCKER_HUB_API

HUB_SERVER = "https://index.docker.io/v1/"
"""What Docker calls Docker Hub in its file and to its helpers."""

_HUB_HOSTS = frozenset({"index.docker.io", DOCKER_HUB_API})
_API_PATHS = frozenset({"", "v1", "v2"})

Document = dict[str, object]


def docker_file() -> Path:
    """Docker's configuration file, in the folder that DOCKER_CONFIG names, else in ~/.docker."""
    folder = os.environ.get("DOCKER_CONFIG")
    return Path(folder or "~/.docker").expanduser() / "config.json"


def named_podman_file() -> Path | None:
    """The file that REGISTRY_AUTH_FILE names."""
    named = os.environ.get("REGISTRY_AUTH_FILE")
    return Path(named).expanduser() if named else None


def podman_files() -> tuple[Path, ...]:
    """Podman's files as it looks for them: REGISTRY_AUTH_FILE alone where it is set, else that
    of this session, then the lasting one."""
    named = named_podman_file()
    if named:
        return (named,)
    session = os.environ.get("XDG_RUNTIME_DIR")
    lasting = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    folders = [Path(folder).expanduser() for folder in (session, lasting) if folder]
    return tuple(folder / "containers" / "auth.json" for folder in folders)


def read_document(file: Path) -> Document:
    """A file's JSON object, empty for no file. Raises OSError, ValueError."""
    try:
        document = json.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    if not isinstance(document, dict):
        raise ValueError(f"{file} holds no JSON object")
    return document


def server_of(registry: str) -> str:
    """What Docker calls a registry in its file and to its helpers."""
    return HUB_SERVER if registry == DOCKER_HUB else registry


def helper_of(document: Document, registry: str) -> str:
    """The credential helper that a file names for a registry, empty for none."""
    helpers = document.get("credHelpers")
    by_registry = helpers if isinstance(helpers, dict) else {}
    for key in (server_of(registry), registry):
        if by_registry.get(key):
            return str(by_registry[key])
    return str(document.get("credsStore") or "")


def entries_of(document: Document, registry: str, repository: str) -> Iterator[object]:
    """What a file's `auths` hold for a repository, the most specific entry first: Podman's may
    be for an organisation or a single repository."""
    keys = keys_of(document, registry)
    parts = repository.split("/") if repository else []
    for length in range(len(parts), -1, -1):
        wanted = "/".join(parts[:length])
        yield from (auths(document)[key] for key, path in keys.items() if path == wanted)


def keys_of(document: Document, registry: str) -> Mapping[str, str]:
    """The keys of `auths` that belong to a registry, each with the path that it is limited to."""
    found = {}
    for key in auths(document):
        host, path = _host_and_path(key)
        if host == registry:
            found[key] = path
    return found


def auths(document: Document) -> Mapping[str, object]:
    """A file's logins by key."""
    found = document.get("auths")
    return found if isinstance(found, dict) else {}


def _host_and_path(key: str) -> tuple[str, str]:
    """Keys are hosts, old ones addresses such as `https://host/v1/`, Podman's may have a path."""
    _, mark, rest = key.rpartition("://")
    host, _, path = rest.partition("/")
    path = "" if mark or path.strip("/") in _API_PATHS else path.strip("/")
    host = host.lower()
    return (DOCKER_HUB if host in _HUB_HOSTS else host), path
