"""Credentials as Docker and Podman keep them: files, helpers and identity tokens."""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass, field
from pathlib import Path

from runner.errors import RegistryError
from runner.registry import helpers
from runner.registry.authfiles import (
    docker_file,
    entries_of,
    helper_of,
    podman_files,
    read_document,
    server_of,
)

TOKEN_USERNAME = "<token>"  # noqa: S105 - how helpers mark an identity token

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A name and password, or an identity token that stands for both."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of a Basic Authorization header."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode('ascii')}"


def credentials_for(registry: str, repository: str = "") -> Credentials | None:
    """What a login to the registry left behind; None for nothing.

    Docker's file comes first, which `runner login` writes, then Podman's. Within a file its
    helper comes first, then its own entries, the most specific for `repository` before others.
    A file or helper that fails is logged and counts as nothing, so that public models stay
    reachable.
    """
    for file in (docker_file(), *podman_files()):
        try:
            found = _in_file(file, registry, repository)
        except (RegistryError, OSError, ValueError) as error:
            log.warning("no credentials for %s from %s: %s", registry, file, error)
            continue
        if found:
            return found
    return None


def _in_file(file: Path, registry: str, repository: str) -> Credentials | None:
    document = read_document(file)
    helper = helper_of(document, registry)
    kept = helpers.get(helper, server_of(registry)) if helper else None
    if kept:
        return _from_helper(*kept)
    entries = entries_of(document, registry, repository)
    return next(filter(None, map(_from_entry, entries)), None)


def _from_helper(username: str, secret: str) -> Credentials:
    if username == TOKEN_USERNAME:
        return Credentials(identity_token=secret)
    return Credentials(username, secret)


def _from_entry(entry: object) -> Credentials | None:
    """None for Docker's empty entries, which only say that a helper keeps the login."""
    if not isinstance(entry, dict):
        raise ValueError("an entry of auths is no JSON object")
    token, pair = entry.get("identitytoken"), entry.get("auth")
    if token:
        return Credentials(identity_token=str(token))
    if not pair:
        return None
    name, _, password = base64.b64decode(str(pair), validate=True).decode().partition(":")
    return Credentials(name, password.strip("\0")) if name else None
