"""One registry's HTTP: oras' provider with our tokens on our own requests.

Imported late: oras and requests take longer to import than a quick command may run.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import oras.provider
import requests

from runner.errors import RegistryError
from runner.registry.credentials import Credentials, credentials_for
from runner.registry.http import MAX_ERROR_BODY, READ_TIMEOUT, Body, Http, read_capped
from runner.registry.proxies import is_loopback
from runner.registry.tokens import PULL, PUSH, Scope, TokenRequest, Tokens, unauthorized
from runner.settings import Settings

MAX_RENEWALS = 3
_UNAUTHORIZED, _NOT_FOUND = 401, 404


class RegistrySession(oras.provider.Registry):  # type: ignore[misc]
    """oras' provider for one host, with its weak parts replaced.

    Tokens are kept per repository and action, fetched once however many threads ask, and sent
    to no other host. `credentials` stand in for those that a login left. Requests have time
    limits; reads and whole bodies are tried again on connection errors, 408, 429 and 5xx.
    Every failure is a RunnerError.
    """

    def __init__(
        self,
        registry: str,
        api_host: str,
        settings: Settings,
        cancelled: threading.Event | None,
        credentials: Credentials | None = None,
    ) -> None:
        insecure = _is_insecure(registry, settings)
        super().__init__(hostname=api_host, insecure=insecure)
        self.registry = registry
        self.http = Http(registry, f"{self.prefix}://{api_host}", settings, cancelled, self.session)
        self._given = credentials
        self._sent_credentials = False
        self._tokens = Tokens(registry, self.http.base_url, self._load_credentials, self._exchange)

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
        scope: Scope | None = None,
        answer_within: float = READ_TIMEOUT,
    ) -> requests.Response:
        """As `do_request`; `push` asks for a token that may also write. `scope` is for addresses
        that don't tell it themselves, `answer_within` the seconds for the answer to begin."""
        needed = scope or self._scope(method, url, push=push)
        return self.http.patiently(
            lambda: self._authorized(method, url, needed, body, headers or {}, answer_within),
            repeatable=not hasattr(body, "read"),  # streams are sent again by their openers
        )

    def raise_for(self, response: requests.Response, doing: str, repository: str) -> None:
        """Turns a status of 400 and more into the RunnerError that explains it."""
        if response.status_code >= 400:  # noqa: PLR2004
            raise self.refusal(response, doing, repository)

    def refusal(self, response: requests.Response, doing: str, repository: str) -> RegistryError:
        """What a status of 400 and more means; the response is done with."""
        if response.status_code in {_UNAUTHORIZED, 403}:
            response.close()
            return unauthorized(self.registry, repository, known=self._sent_credentials)
        return self.http.refusal(response, doing)

    def _authorized(
        self,
        method: str,
        url: str,
        scope: Scope,
        body: Body,
        headers: Mapping[str, str],
        answer_within: float,
    ) -> requests.Response:
        def once(token: str) -> requests.Response:
            return self.http.once(
                method, url, body, headers, authorization=token, answer_within=answer_within
            )

        is_fresh = False
        for _ in range(MAX_RENEWALS + 1):
            token = self._tokens.header(scope)
            response = once(token)
            refused = response.status_code == _UNAUTHORIZED and self.http.is_own(response.url)
            if is_fresh or not refused:
                return response
            challenge = response.headers.get("WWW-Authenticate", "")
            response.close()
            is_fresh = self._tokens.renew(scope, challenge, token)
            if body is not None and not isinstance(body, bytes):
                body.seek(0)
        raise unauthorized(self.registry, scope.repository, known=self._sent_credentials)

    def _scope(self, method: str, url: str, *, push: bool) -> Scope:
        path = urlsplit(url).path.removeprefix("/v2/")
        for mark in ("/blobs/", "/manifests/", "/tags/"):
            repository, found, _ = path.rpartition(mark)
            if found:
                repository = repository.removesuffix("/blobs")
                reads = method in {"GET", "HEAD"} and not push
                return Scope(repository, PULL if reads else PUSH)
        return Scope("", PULL)

    def _load_credentials(self, repository: str) -> Credentials | None:
        found = self._given or credentials_for(self.registry, repository)
        self._sent_credentials = found is not None
        return found

    def _exchange(self, asked: TokenRequest) -> str:
        headers = {"Accept": "application/json"}
        if asked.basic:
            headers["Authorization"] = asked.basic
        response = self.http.patiently(
            lambda: self.http.send(
                "POST" if asked.form else "GET",
                asked.realm,
                asked.parameters if asked.form else None,
                headers,
                None if asked.form else asked.parameters,
            )
        )
        content = read_capped(response, MAX_ERROR_BODY)
        if response.status_code in {400, _UNAUTHORIZED, 403, _NOT_FOUND}:
            raise unauthorized(self.registry, asked.repository, known=self._sent_credentials)
        return _token_in(content, response.status_code, asked.realm)


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
