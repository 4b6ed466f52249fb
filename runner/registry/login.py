"""Logins: checked with the registry, then kept where Docker keeps its own."""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import BadInput, RegistryError, RegistryUnauthorized
from runner.registry import helpers
from runner.registry.authfiles import (
    Document,
    auths,
    docker_file,
    helper_of,
    keys_of,
    read_document,
    server_of,
)
from runner.registry.credentials import Credentials
from runner.registry.reference import parse_registry

if TYPE_CHECKING:
    from runner.settings import Settings


def login(registry: str, username: str, secret: str, settings: Settings) -> None:
    """Logs in to a registry and keeps the login as `docker login` does: with the credential
    helper that Docker's config.json names, else in that file.

    Raises RegistryUnauthorized where the registry refuses, and then keeps nothing; BadReference
    for what is no registry; BadInput for an empty name or secret and for a file that can't be
    used; RegistryError where no registry answers or a helper fails.
    """
    host = parse_registry(registry)
    if not username or not secret:
        raise BadInput(
            "a login needs a user name and a password or token",
            hint="give -u NAME, and the password with --password-stdin",
        )
    if ":" in username:
        raise BadInput(
            "a user name holds no colon", hint="give the name alone; the password is asked for"
        )
    file = docker_file()
    document = _read(file)
    _check(host, Credentials(username, secret), settings)
    helper = helper_of(document, host)
    if helper:
        helpers.store(helper, server_of(host), username, secret)
        entry: dict[str, str] = {}
    else:
        entry = {"auth": base64.b64encode(f"{username}:{secret}".encode()).decode("ascii")}
    _write(file, _with_entry(document, host, entry))


def logout(registry: str) -> bool:
    """Forgets what Docker keeps for a registry; False where it kept nothing.

    The registry has no say in it: passwords and tokens hold until they are changed there, and
    a login must go even where the registry is out of reach (`lets_in` asks it afterwards).
    Podman's own file stays as it is (`podman logout`). Raises BadReference, BadInput,
    RegistryError where a helper fails.
    """
    host = parse_registry(registry)
    file = docker_file()
    document = _read(file)
    helper = helper_of(document, host)
    erased = bool(helper) and helpers.erase(helper, server_of(host))
    known = _host_keys(document, host)
    if known:
        _write(file, _with_entry(document, host, None))
    return erased or any(auths(document)[key] for key in known)


def lets_in(registry: str, settings: Settings) -> bool | None:
    """Whether a registry answers us with what we have now: no login, or one that Podman keeps.

    None where it can't be reached.
    """
    from runner.registry.client import RegistryClient

    try:
        with RegistryClient(parse_registry(registry), settings) as client:
            client.check_login()
    except RegistryUnauthorized:
        return False
    except RegistryError:
        return None
    return True


def _check(host: str, credentials: Credentials, settings: Settings) -> None:
    from runner.registry.client import RegistryClient

    with RegistryClient(host, settings, credentials=credentials) as client:
        try:
            client.check_login()
        except RegistryUnauthorized as error:
            raise RegistryUnauthorized(
                f"{host} refuses the login of {credentials.username}",
                hint="check the name and the password; some registries want an access token",
            ) from error


def _with_entry(document: Document, host: str, entry: dict[str, str] | None) -> Document:
    """The document with this as the registry's only entry, or with none."""
    known = _host_keys(document, host)
    kept = {key: value for key, value in auths(document).items() if key not in known}
    added = {} if entry is None else {server_of(host): entry}
    return {**document, "auths": {**kept, **added}}


def _host_keys(document: Document, host: str) -> list[str]:
    """Keys for the whole registry; Podman's may also be for a part of it."""
    return [key for key, path in keys_of(document, host).items() if not path]


def _read(file: Path) -> Document:
    try:
        return read_document(file)
    except (OSError, ValueError) as error:
        raise BadInput(f"can't read {file}: {error}", hint="mend it or move it away") from error


def _write(file: Path, document: Document) -> None:
    content = json.dumps(document, indent="\t", ensure_ascii=False).encode()
    try:
        _replace(file.resolve(), content)  # a link, as many keep, goes on leading there
    except OSError as error:
        raise BadInput(
            f"can't write {file}: {error.strerror or error}",
            hint="name a folder that you may write in DOCKER_CONFIG",
        ) from error


def _replace(file: Path, content: bytes) -> None:
    """At no time may others read it, nor does a crash leave half of it."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as output:
            output.write(content)
            output.flush()
            os.fsync(output.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
