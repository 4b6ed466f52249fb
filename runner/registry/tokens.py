"""Authorization for one registry: what its challenge asks for, one token per repository."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from runner.errors import RegistryError, RegistryUnauthorized
from runner.registry.proxies import as_address, is_loopback

if TYPE_CHECKING:
    from runner.registry.credentials import Credentials

CLIENT_ID = "runner"
_SCHEMES = re.compile(
    r'(?:^|,)\s*(basic|bearer)\b((?:[^",]|"[^"]*"|,(?!\s*(?:basic|bearer)\b))*)', re.I
)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token is for. `repository` is empty for the registry itself."""

    repository: str
    actions: str

    def __str__(self) -> str:
        return f"repository:{self.repository}:{self.actions}" if self.repository else ""


PULL = "pull"
PUSH = "pull,push"


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """How to ask the realm for a token: a GET with `basic`, or a POST of `form`."""

    realm: str
    parameters: dict[str, str]
    basic: str = ""
    form: bool = False


Exchange = Callable[[TokenRequest], str]


class Tokens:
    """Authorization headers of one registry, fetched once per scope however many threads ask."""

    def __init__(
        self,
        registry: str,
        base_url: str,
        load_credentials: Callable[[], Credentials | None],
        exchange: Exchange,
    ) -> None:
        self._registry = registry
        self._base = urlsplit(base_url)
        self._load_credentials = load_credentials
        self._exchange = exchange
        self._headers: dict[Scope, str] = {}
        self._lock = threading.Lock()

    def header(self, scope: Scope) -> str:
        """The Authorization header for `scope`, empty while none is known."""
        return self._headers.get(scope) or self._headers.get(Scope(scope.repository, PUSH), "")

    def renew(self, scope: Scope, challenge: str, stale: str) -> None:
        """Answers a 401. Raises RegistryUnauthorized where no credentials can."""
        with self._lock:
            if self.header(scope) not in ("", stale):
                return  # another thread was quicker
            for known in [k for k, value in self._headers.items() if value == stale]:
                del self._headers[known]
            self._headers[scope] = self._authorize(scope, challenge)

    def _authorize(self, scope: Scope, challenge: str) -> str:
        offered = {scheme.lower(): rest for scheme, rest in _SCHEMES.findall(challenge)}
        credentials = self._load_credentials()
        if "bearer" in offered:
            return f"Bearer {self._token(scope, offered['bearer'], credentials)}"
        if "basic" in offered and credentials and credentials.username:
            return credentials.basic
        raise unauthorized(self._registry, scope.repository, known=credentials is not None)

    def _token(self, scope: Scope, challenge: str, credentials: Credentials | None) -> str:
        from oras.auth.utils import parse_auth_header

        asked = parse_auth_header(challenge)
        realm = str(asked.realm or "")
        self._check_realm(realm)
        wanted = {"service": str(asked.service or ""), "scope": _scope(scope, asked.scope)}
        parameters = {name: value for name, value in wanted.items() if value}
        if credentials and credentials.identity_token:
            grant = {
                "grant_type": "refresh_token",
                "refresh_token": credentials.identity_token,
                "client_id": CLIENT_ID,
            }
            return self._exchange(TokenRequest(realm, parameters | grant, form=True))
        basic = credentials.basic if credentials else ""
        return self._exchange(TokenRequest(realm, parameters, basic=basic))

    def _check_realm(self, realm: str) -> None:
        """A registry must not have our credentials sent in clear or into a private network."""
        parts = urlsplit(realm)
        host, own_host = parts.hostname or "", self._base.hostname or ""
        address = as_address(host)
        is_own = host == own_host or (is_loopback(host) and is_loopback(own_host))
        in_clear = parts.scheme != "https" and not (self._base.scheme == "http" and is_own)
        inward = is_loopback(host) or (address is not None and not address.is_global)
        if parts.scheme not in {"http", "https"} or in_clear or (inward and not is_own):
            raise RegistryError(
                f"{self._registry} sends its logins to {realm!r}, which is refused",
                hint="a login service must be reached by https at a public address",
            )


def unauthorized(registry: str, repository: str, *, known: bool) -> RegistryUnauthorized:
    """What a person is told on 401 and 403; `known` says whether credentials were sent."""
    what = f"{repository} at {registry}" if repository else registry
    if known:
        return RegistryUnauthorized(
            f"{registry} refuses {what} with the credentials it was given",
            hint=f"check the name and your access, then: docker login {registry}",
        )
    return RegistryUnauthorized(
        f"{what} needs a login, or does not exist",
        hint=f"check the name, then: docker login {registry}",
    )


def _scope(scope: Scope, asked: str | None) -> str:
    """Ours for repositories, so that a token also serves what we do next; else what is asked."""
    if asked and not asked.startswith("repository:"):
        return str(asked)
    return str(scope) or str(asked or "")
