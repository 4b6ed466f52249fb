"""Where the Docker Engine is: what the `docker` command would talk to, and only on this machine."""

from __future__ import annotations

import hashlib
import json
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from runner.errors import DockerUnavailable

DEFAULT_ADDRESS = "unix:///var/run/docker.sock"
DEFAULT_CONTEXT = "default"
PROBE_TIMEOUT_S = 5.0


def docker_address(environment: Mapping[str, str]) -> str:
    """The engine's address: DOCKER_HOST, else the docker context in use, else the default socket.

    Raises DockerUnavailable for a context that doesn't exist and for an engine on another host.
    """
    address = environment.get("DOCKER_HOST") or _context_address(environment)
    _refuse_remote(address)
    return address


def check_socket(address: str) -> None:
    """Connects to the engine's socket once; raises DockerUnavailable with what to do about it."""
    path = urlsplit(address).path
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PROBE_TIMEOUT_S)
        try:
            probe.connect(path)
        except PermissionError as error:
            raise DockerUnavailable(
                f"no permission to use Docker's socket {path}",
                hint="join its group (`sudo usermod -aG docker $USER`), log in again, then "
                "`runner restart-runner`",
            ) from error
        except OSError as error:
            raise DockerUnavailable(
                f"Docker does not answer on {path}: {error.strerror or error}", hint=start_hint()
            ) from error


def start_hint() -> str:
    if sys.platform == "darwin":
        return "start Docker Desktop (`open -a Docker`), then try again"
    return "start Docker (`sudo systemctl start docker`, or Docker Desktop), then try again"


def _refuse_remote(address: str) -> None:
    scheme = urlsplit(address).scheme
    if scheme not in {"unix", "http+unix"}:
        raise DockerUnavailable(
            f"remote Docker hosts are not supported yet: {address}",
            hint="unset DOCKER_HOST, or `docker context use default`, then `runner restart-runner`",
        )


def _context_address(environment: Mapping[str, str]) -> str:
    folder = _docker_folder(environment)
    name = environment.get("DOCKER_CONTEXT") or _current_context(folder)
    if name == DEFAULT_CONTEXT:
        return DEFAULT_ADDRESS
    meta = folder / "contexts" / "meta" / hashlib.sha256(name.encode()).hexdigest() / "meta.json"
    try:
        address = json.loads(meta.read_bytes())["Endpoints"]["docker"]["Host"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DockerUnavailable(
            f"the docker context {name!r} can't be read",
            hint="`docker context ls` lists contexts, `docker context use default` goes back",
        ) from error
    return str(address)


def _docker_folder(environment: Mapping[str, str]) -> Path:
    named = environment.get("DOCKER_CONFIG")
    return Path(named) if named else Path(environment.get("HOME") or Path.home()) / ".docker"


def _current_context(folder: Path) -> str:
    # `docker` itself goes on with the default context where this file is missing or broken.
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return DEFAULT_CONTEXT
    name = config.get("currentContext") if isinstance(config, dict) else None
    return name if isinstance(name, str) and name else DEFAULT_CONTEXT
