"""HTTP to one hub, with its token and with what its refusals mean.

Imported late: requests takes longer to import than a quick command may run.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import requests

from runner.errors import ModelNotFound, RegistryError, RegistryUnauthorized, RunnerError
from runner.hubs.credentials import token_for
from runner.hubs.endpoints import ENDPOINT_NAMES, endpoint_of
from runner.hubs.listing import HubFile, Listing
from runner.registry.http import MAX_RETRIES, Advice, Http, read_capped
from runner.registry.proxies import is_loopback
from runner.registry.reference import Source
from runner.registry.source import HttpSource
from runner.settings import Settings

MAX_DOCUMENT = 32 * 1024 * 1024
MAX_TOLD = 200
_FAILED, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_MANY = 400, 401, 403, 404, 429

log = logging.getLogger(__name__)

_TOKEN_NAMES = {Source.HUGGING_FACE: "HF_TOKEN", Source.MODELSCOPE: "MODELSCOPE_API_TOKEN"}


class HubSession:
    """One hub as one caller sees it. `token` is sent in place of the environment's own; it goes
    to the hub alone, and in clear to this machine alone. May be shared between threads."""

    def __init__(
        self,
        source: Source,
        settings: Settings,
        cancelled: threading.Event | None = None,
        token: str = "",
    ) -> None:
        self.source = source
        self.endpoint = endpoint_of(source, settings)
        parts = urlsplit(self.endpoint)
        origin = f"{parts.scheme}://{parts.netloc}"
        self.http = Http(parts.netloc, origin, settings, cancelled, advice=_advice(source))
        self._token = _safe(token or token_for(source), self.endpoint)

    @property
    def name(self) -> str:
        """What people call the hub: its host."""
        return self.http.name

    def page(self, repository: str) -> str:
        """A repository's address for people."""
        folder = "models/" if self.source is Source.MODELSCOPE else ""
        return f"{self.endpoint}/{folder}{repository}"

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> requests.Response:
        """The hub's answer, redirects followed, whatever its status; its body is not yet read."""
        authorization = f"Bearer {self._token}" if self._token else ""
        return self.http.request("GET", url, headers=headers, authorization=authorization)

    def document(self, url: str, repository: str) -> tuple[requests.Response, bytes]:
        """A document of the hub's API: its head and its content. Raises as `refusal` says."""
        for attempt in range(MAX_RETRIES + 1):
            response = self.get(url, {"Accept": "application/json"})
            if response.status_code >= _FAILED:
                raise self.refusal(response, repository, "asked for its models")
            try:
                content = read_capped(response, MAX_DOCUMENT + 1)
            except requests.RequestException as error:
                if attempt == MAX_RETRIES:
                    raise self.http.unreachable(error) from error
                self.http.pause(attempt)
                continue
            if len(content) > MAX_DOCUMENT:
                raise RegistryError(
                    f"{self.name} sent a listing that has no end", hint="try again later"
                )
            return response, content
        raise AssertionError("the last attempt returns or raises")

    def bytes_of(self, listing: Listing, file: HubFile, url: str) -> HttpSource:
        """A file's bytes, in any ranges."""
        return HttpSource(
            self.http,
            lambda headers: self.get(url, headers),
            lambda response: self.refusal(response, listing.repository, f"sending {file.path}"),
        )

    def refusal(self, response: requests.Response, repository: str, doing: str) -> RunnerError:
        """What an answer of 400 and more means, with the next step."""
        status, code = response.status_code, response.headers.get("X-Error-Code", "")
        page = self.page(repository)
        if code == "EntryNotFound" or not self.http.is_own(response.url):
            return self.http.refusal(response, doing)
        if code == "GatedRepo":
            response.close()
            return self._gated(repository, page)
        if code == "RevisionNotFound":
            response.close()
            return ModelNotFound(
                f"{repository} at {self.name} has no such revision",
                hint=f"its branches and commits are at {page}",
            )
        if status in {_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND} or code == "RepoNotFound":
            told = _told(response)
            response.close()
            return self._unknown(status, repository, told)
        if status == _TOO_MANY:
            return self._too_many(response, doing)
        return self.http.refusal(response, doing)

    def close(self) -> None:
        self.http.session.close()

    def _gated(self, repository: str, page: str) -> RegistryUnauthorized:
        then = "with the account of your token"
        if not self._token:
            then = "then set HF_TOKEN to a token of your account"
        return RegistryUnauthorized(
            f"{repository} is open only to those who accept its terms",
            hint=f"accept them at {page}, {then}",
        )

    def _unknown(self, status: int, repository: str, told: str) -> RunnerError:
        """Hubs do not tell strangers whether a private repository exists."""
        what = f"{repository} at {self.name}"
        variable = _TOKEN_NAMES[self.source]
        if status == _NOT_FOUND:
            return ModelNotFound(
                f"{what} does not exist{told}",
                hint=f"check the name; a private one needs {variable}",
            )
        if not self._token:
            return RegistryUnauthorized(
                f"{what} does not exist, or is private",
                hint=f"check the name, or set {variable} to a token that may read it",
            )
        return RegistryUnauthorized(
            f"{self.name} does not let your token read {repository}{told}",
            hint=f"check the name and the token in {variable}",
        )

    def _too_many(self, response: requests.Response, doing: str) -> RegistryError:
        error = self.http.refusal(response, doing)
        if self.source is not Source.HUGGING_FACE or self._token:
            return error
        return RegistryError(
            error.message, hint="try again later, or set HF_TOKEN: with a token it allows more"
        )


def quoted(path: str) -> str:
    return quote(path, safe="/")


def _advice(source: Source) -> Advice:
    return Advice(
        reach=f"check your network, or set {ENDPOINT_NAMES[source]} to a mirror",
        trust="name its certificate authority in the setting ca_file",
    )


def _safe(token: str, endpoint: str) -> str:
    parts = urlsplit(endpoint)
    if token and parts.scheme != "https" and not is_loopback(parts.hostname or ""):
        log.warning("the token is not sent to %s, which has no https", endpoint)
        return ""
    return token


def _told(response: requests.Response) -> str:
    """The hub's own words, shortened."""
    told = response.headers.get("X-Error-Message", "")
    line = "".join(character for character in told if character.isprintable()).strip()
    return f": {line[:MAX_TOLD].rstrip('.')}" if line else ""
