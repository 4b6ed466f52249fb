"""Credentials as Docker keeps them: its configuration file, helpers and identity tokens."""

from __future__ import annotations

import base64
import logging
import warnings
from dataclasses import dataclass, field

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


def credentials_for(registry: str) -> Credentials | None:
    """What `docker login REGISTRY` left behind (DOCKER_CONFIG is honoured); None for nothing.

    A helper that fails is logged and counts as nothing, so that public models stay reachable.
    """
    from docker import auth
    from docker.errors import DockerException

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a missing helper also raises, and is logged below
            found = auth.load_config().resolve_authconfig(registry)
    except (DockerException, ValueError, OSError) as error:
        log.warning("no credentials for %s: %s", registry, error)
        return None
    entry = {str(key).lower(): value for key, value in (found or {}).items()}
    token = str(entry.get("identitytoken") or "")
    username = str(entry.get("username") or "")
    if not token and not username:
        return None
    return Credentials(username, str(entry.get("password") or ""), token)
