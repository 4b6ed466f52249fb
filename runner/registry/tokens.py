"""Authorization for one registry: what its challenge asks for, one token per repository."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
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
    """What a token is for. `repository` is empty for the registry itself; `source` is a second
    one that may be read too, for mounts from it."""

    repository: str
    actions: str
    source: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """As registries write scopes."""
        if not self.repository:
            return ()
        own = f"repository:{self.repository}:{self.actions}"
        return (own, f"repository:{self.source}:{PULL}") if self.source else (own,)


PULL = "pull"
PUSH = "pull,push"


Parameters = dict[str, str | Sequence[str]]


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """How to ask the realm for a token: a GET with `basic`, or a POST of the parameters.
    `repository` is whom it is for, in messages."""

    realm: str
    parameters: Parameters
    repository: str
    basic: str = ""
    form: bool = False


Exchange = Callable[[TokenRequest], str]
LoadCredentials = Callable[[str], "Credentials | None"]
"""What is known for a repository, which is empty for the registry itself."""


class Tokens:
    """Authorization headers of one registry, fetched once per scope however many threads ask."""

    def __init__(
        self,
        registry: str,
        base_url: str,
        load_credentials: LoadCredentials,
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
        known = self._headers.get(scope)
        if known or scope.source:
            return known or ""
        return self._headers.get(Scope(scope.repository, PUSH), "")

    def renew(self, scope: Scope, challenge: str, stale: str) -> bool:
        """Answers a 401; False where another thread has done so, whose token may be old by now.

        Raises RegistryUnauthorized where no credentials can.
        """
        with self._lock:
            if self.header(scope) not in ("", stale):
                return False
            for known in [k for k, value in self._headers.items() if value == stale]:
                del self._headers[known]
            self._headers[scope] = self._authorize(scope, challenge)
            return True

    def _authorize(self, scope: Scope, challenge: str) -> str:
        offered = {scheme.lower(): rest for scheme, rest in _SCHEMES.findall(challenge)}
        credentials = self._load_credentials(scope.repository)
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
        parameters: Parameters = {"service": str(asked.service)} if asked.service else {}
        scopes = _scopes(scope, asked.scope)
        if not credentials or not credentials.identity_token:
            basic = credentials.basic if credentials else ""
            many = {**parameters, "scope": scopes}
            return self._exchange(TokenRequest(realm, many, scope.repository, basic))
        if scopes:
            parameters["scope"] = " ".join(scopes)
        parameters["grant_type"] = "refresh_token"
        parameters["refresh_token"] = credentials.identity_token
        parameters["client_id"] = CLIENT_ID
        return self._exchange(TokenRequest(realm, parameters, scope.repository, form=True))

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
            hint=f"check the name and your access, then: runner login {registry}",
        )
    return RegistryUnauthorized(
        f"{what} needs a login, or does not exist",
        hint=f"check the name, then: runner login {registry}",
    )


def _scopes(scope: Scope, asked: str | None) -> tuple[str, ...]:
    """Ours for repositories, so that a token also serves what we do next; else what is asked."""
    if asked and not asked.startswith("repository:"):
        return (str(asked),)
    return scope.names or ((str(asked),) if asked else ())
