"""One registry's HTTP: oras' provider with our tokens, retries, redirects and time limits.

Imported late: oras and requests take longer to import than a quick command may run.
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Mapping
from io import SEEK_SET
from typing import IO, Any
from urllib.parse import urljoin, urlsplit

import oras.provider
import requests
from requests.adapters import HTTPAdapter

from runner.errors import RegistryError, ShuttingDown
from runner.registry.credentials import Credentials, credentials_for
from runner.registry.proxies import is_loopback, proxies_for
from runner.registry.tokens import PULL, PUSH, Scope, TokenRequest, Tokens, unauthorized
from runner.settings import Settings

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 60.0
MAX_ERROR_BODY = 64 * 1024
MAX_RETRIES = 3
MAX_REDIRECTS = 5
MAX_RETRY_AFTER = 60.0
BLOCK = 1024 * 1024
RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_UNAUTHORIZED, _NOT_FOUND = 401, 404

Body = bytes | IO[bytes] | None


class RegistrySession(oras.provider.Registry):  # type: ignore[misc]
    """oras' provider for one host, with its weak parts replaced.

    Tokens are kept per repository and action, fetched once however many threads ask, and sent
    to no other host. Requests have time limits; reads and whole bodies are tried again on
    connection errors, 408, 429 and 5xx. Every failure is a RunnerError.
    """

    def __init__(
        self, registry: str, api_host: str, settings: Settings, cancelled: threading.Event | None
    ) -> None:
        insecure = _is_insecure(registry, settings)
        verify: bool | str = str(settings.ca_file) if settings.ca_file else True
        super().__init__(hostname=api_host, insecure=insecure, tls_verify=verify)
        self.registry = registry
        self.base_url = f"{self.prefix}://{api_host}"
        self._settings = settings
        self._cancelled = cancelled or threading.Event()
        self._credentials: Credentials | None = None
        self._tokens = Tokens(registry, self.base_url, self._load_credentials, self._exchange)
        self.session.trust_env = False  # else requests would send a netrc file's passwords
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, _Adapter())

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: Body = None,
        headers: dict[str, str] | None = None,
        json: Any = None,  # noqa: ANN401 - oras' own signature
        stream: bool = False,
    ) -> requests.Response:
        """Answers with the registry's last word, whatever its status, its body not yet read.

        Raises RegistryError where the host can't be reached and RegistryUnauthorized where its
        challenge can't be met.
        """
        del json, stream
        return self.request(method, url, body=data, headers=headers or {})

    def request(
        self,
        method: str,
        url: str,
        *,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        push: bool = False,
    ) -> requests.Response:
        """As `do_request`; `push` asks for a token that may also write."""
        scope = self._scope(method, url, push=push)
        repeatable = not hasattr(body, "read")  # streams are sent again by whoever opened them
        for attempt in range(MAX_RETRIES + 1):
            last = attempt == MAX_RETRIES or not repeatable
            try:
                response = self._authorized(method, url, scope, body, headers or {})
            except requests.RequestException as error:
                if last or not _is_passing(error):
                    raise self.unreachable(error) from error
                self.pause(attempt)
                continue
            if last or response.status_code not in RETRIED_STATUSES:
                return response
            delay = _retry_after(response)
            if delay is not None and delay > MAX_RETRY_AFTER:
                return response
            response.close()
            self.pause(attempt, delay)
        raise AssertionError("the last attempt returns or raises")

    def pause(self, attempt: int, delay: float | None = None) -> None:
        """Waits before the next attempt; raises ShuttingDown when cancelled meanwhile."""
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        if self._cancelled.wait(0.25 * 2**attempt * jitter if delay is None else delay):
            raise ShuttingDown("the transfer was cancelled")

    def raise_for(self, response: requests.Response, doing: str, repository: str) -> None:
        """Turns a status of 400 and more into the RunnerError that explains it."""
        status = response.status_code
        if status < 400:  # noqa: PLR2004
            return
        detail = read_capped(response, MAX_ERROR_BODY).decode("utf-8", "replace")
        if status in {_UNAUTHORIZED, 403}:
            raise unauthorized(self.registry, repository, known=self._credentials is not None)
        delay = _retry_after(response)
        later = f" (it asks to wait {delay:.0f} s)" if delay else ""
        raise RegistryError(
            f"{self.registry} answered {status} when {doing}{later}{_explanation(detail)}",
            hint="try again later" if status in RETRIED_STATUSES else "",
        )

    def unreachable(self, error: Exception) -> RegistryError:
        """One line for a connection that failed, with what to do about it."""
        if isinstance(error, requests.exceptions.SSLError):
            return RegistryError(
                f"no trusted TLS connection to {self.registry}: {_root(error)}",
                hint="name its certificate authority in the setting ca_file,"
                f" or add {self.registry} to insecure_registries if it speaks plain http",
            )
        if isinstance(error, requests.exceptions.ProxyError):
            return RegistryError(
                f"the proxy for {self.registry} does not answer: {_root(error)}",
                hint="check the setting proxy, or HTTP_PROXY and HTTPS_PROXY",
            )
        if isinstance(error, requests.Timeout):
            return RegistryError(f"{self.registry} took too long to answer", hint="try again later")
        return RegistryError(
            f"can't reach {self.registry}: {_root(error)}",
            hint="check the registry's name, that it runs, and your network",
        )

    def _authorized(
        self, method: str, url: str, scope: Scope, body: Body, headers: Mapping[str, str]
    ) -> requests.Response:
        start = None if body is None or isinstance(body, bytes) else body.tell()
        token = self._tokens.header(scope)
        response = self._redirected(method, url, token, body, headers)
        if response.status_code != _UNAUTHORIZED or not self._is_own(response.url):
            return response
        challenge = response.headers.get("WWW-Authenticate", "")
        response.close()
        self._tokens.renew(scope, challenge, token)
        if start is not None and not isinstance(body, bytes) and body is not None:
            body.seek(start, SEEK_SET)
        return self._redirected(method, url, self._tokens.header(scope), body, headers)

    def _redirected(
        self, method: str, url: str, token: str, body: Body, headers: Mapping[str, str]
    ) -> requests.Response:
        """Follows redirects of reads by hand: our token goes to the registry alone."""
        for _ in range(MAX_REDIRECTS + 1):
            sent = dict(headers)
            if token and self._is_own(url):
                sent["Authorization"] = token
            response = self._send(method, url, body, sent)
            target = response.headers.get("Location", "")
            reads = method in {"GET", "HEAD"}
            if response.status_code not in _REDIRECTS or not target or not reads:
                return response
            response.close()
            url = self._checked(urljoin(url, target))
        raise RegistryError(f"{self.registry} redirects in circles")

    def _send(
        self, method: str, url: str, body: Body, headers: Mapping[str, str]
    ) -> requests.Response:
        if self._cancelled.is_set():
            raise ShuttingDown("the transfer was cancelled")
        response: requests.Response = self.session.request(
            method,
            url,
            data=body,
            headers=dict(headers),
            stream=True,
            allow_redirects=False,
            timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
            verify=self._tls_verify,
            proxies=proxies_for(url, self._settings.proxy),
        )
        return response

    def _checked(self, url: str) -> str:
        parts = urlsplit(url)
        allowed = {"http", "https"} if self.prefix == "http" else {"https"}
        if parts.scheme not in allowed or not parts.hostname:
            raise RegistryError(f"{self.registry} redirects to {url[:200]!r}, which is refused")
        return url

    def _is_own(self, url: str | None) -> bool:
        parts, own = urlsplit(url or ""), urlsplit(self.base_url)
        return (parts.scheme, parts.netloc) == (own.scheme, own.netloc)

    def _scope(self, method: str, url: str, *, push: bool) -> Scope:
        path = urlsplit(url).path.removeprefix("/v2/")
        for mark in ("/blobs/", "/manifests/", "/tags/"):
            repository, found, _ = path.rpartition(mark)
            if found:
                repository = repository.removesuffix("/blobs")
                reads = method in {"GET", "HEAD"} and not push
                return Scope(repository, PULL if reads else PUSH)
        return Scope("", PULL)

    def _load_credentials(self) -> Credentials | None:
        self._credentials = credentials_for(self.registry)
        return self._credentials

    def _exchange(self, asked: TokenRequest) -> str:
        headers = {"Accept": "application/json"}
        if asked.basic:
            headers["Authorization"] = asked.basic
        response = self.session.request(
            "POST" if asked.form else "GET",
            asked.realm,
            params=None if asked.form else asked.parameters,
            data=asked.parameters if asked.form else None,
            headers=headers,
            stream=True,
            allow_redirects=False,
            timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
            verify=self._tls_verify,
            proxies=proxies_for(asked.realm, self._settings.proxy),
        )
        content = read_capped(response, MAX_ERROR_BODY)
        if response.status_code in {400, _UNAUTHORIZED, 403, _NOT_FOUND}:
            repository = asked.parameters.get("scope", "").removeprefix("repository:")
            known = self._credentials is not None
            raise unauthorized(self.registry, repository.partition(":")[0], known=known)
        return _token_in(content, response.status_code, asked.realm)


class _Adapter(HTTPAdapter):
    """Larger blocks than http.client's 8 KiB: model files are long."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - requests' own
        super().init_poolmanager(*args, **kwargs, blocksize=BLOCK)


def read_capped(response: requests.Response, limit: int) -> bytes:
    """At most `limit` bytes of a body, and the connection is done with."""
    content = bytearray()
    with response:
        for chunk in response.iter_content(min(limit, BLOCK)):
            content += chunk
            if len(content) >= limit:
                break
    return bytes(content[:limit])


def _token_in(content: bytes, status: int, realm: str) -> str:
    import json

    try:
        answer = json.loads(content) if status == 200 else {}  # noqa: PLR2004
    except (ValueError, RecursionError):
        answer = {}
    token = (answer.get("token") or answer.get("access_token")) if isinstance(answer, dict) else ""
    if not isinstance(token, str) or not token or not token.isprintable():
        raise RegistryError(f"{realm} gave no token (status {status})", hint="try again later")
    return token


def _is_insecure(registry: str, settings: Settings) -> bool:
    host = urlsplit(f"//{registry}").hostname or ""
    listed = {name.lower() for name in settings.insecure_registries}
    return is_loopback(host) or registry in listed or host in listed


def _is_passing(error: requests.RequestException) -> bool:
    """Whether another attempt may end better."""
    lasting = (requests.exceptions.SSLError, requests.exceptions.InvalidURL)
    passing = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, passing) and not isinstance(error, lasting)


def _retry_after(response: requests.Response) -> float | None:
    """Seconds that the registry asks us to wait."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _explanation(body: str) -> str:
    """The first error message in a registry's JSON answer, shortened."""
    import json

    try:
        message = json.loads(body)["errors"][0]["message"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return ""
    line = " ".join(str(message).split())
    return f": {line[:200]}" if line else ""


def _root(error: BaseException) -> str:
    """What lies under requests' and urllib3's wrappings."""
    reason = getattr(error, "reason", None)
    inner = error.args[0] if error.args else None
    for deeper in (reason, error.__cause__, inner):
        if isinstance(deeper, BaseException):
            return _root(deeper)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).rpartition(": ")[2] or type(error).__name__
