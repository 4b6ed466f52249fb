"""HTTP to one origin: time limits, retries, redirects without our credentials, proxies.

Imported late: requests takes longer to import than a quick command may run.
"""

from __future__ import annotations

import email.utils
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse, IncompleteRead
from typing import Any, Protocol
from urllib.parse import urljoin, urlsplit

import requests
from requests.adapters import HTTPAdapter

from runner.errors import RegistryError, ShuttingDown
from runner.registry.proxies import proxies_for
from runner.settings import Settings

CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 30.0
BODY_WITHIN = 60.0
MAX_ERROR_BODY = 64 * 1024
MAX_RETRIES = 4
MAX_REDIRECTS = 5
MAX_RETRY_AFTER = 60.0
BLOCK = 1024 * 1024
RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_NEXT = {
    404: "check the name: nothing is there",
    **dict.fromkeys(RETRIED_STATUSES, "try again later"),
}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Sent(Protocol):
    """A body that is read while it is sent, from the beginning again where it must be."""

    def read(self, size: int = -1, /) -> bytes: ...

    def seek(self, offset: int, /) -> int: ...

    def __len__(self) -> int: ...


Body = bytes | Sent | None


@dataclass(frozen=True, slots=True)
class Advice:
    """The next step where an origin can't be reached, and where its certificate is not trusted."""

    reach: str
    trust: str


def registry_advice(name: str) -> Advice:
    return Advice(
        reach="check the registry's name, that it runs, and your network",
        trust="name its certificate authority in the setting ca_file,"
        f" or add {name} to insecure_registries if it speaks plain http",
    )


class Http:
    """Requests to one origin, told apart from the hosts that it redirects to.

    `name` is what people call the origin, `base_url` its scheme and host. The session may be
    shared between threads. Every failure is a RunnerError, with a registry's `advice` unless
    another is given.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        settings: Settings,
        cancelled: threading.Event | None = None,
        session: requests.Session | None = None,
        advice: Advice | None = None,
    ) -> None:
        self.name = name
        self._advice = advice or registry_advice(name)
        self.base_url = base_url
        self.session = session or requests.Session()
        self._settings = settings
        self._cancelled = cancelled or threading.Event()
        self._verify: bool | str = str(settings.ca_file) if settings.ca_file else True
        self._answered = False
        self.session.trust_env = False  # else requests would send a netrc file's passwords
        for scheme in ("http://", "https://"):
            self.session.mount(scheme, _Adapter())

    def request(
        self,
        method: str,
        url: str,
        *,
        body: Body = None,
        headers: Mapping[str, str] | None = None,
        authorization: str = "",
    ) -> requests.Response:
        """The origin's last word, whatever its status, its body not yet read.

        Tried again on connection errors, 408, 429 and 5xx, but for bodies that can't be sent
        twice. `authorization` goes to the origin alone.
        """
        return self.patiently(
            lambda: self.once(method, url, body, headers or {}, authorization=authorization),
            repeatable=not hasattr(body, "read"),
        )

    def patiently(
        self, attempt: Callable[[], requests.Response], *, repeatable: bool = True
    ) -> requests.Response:
        """Repeats an attempt for as long as that may help; raises RegistryError after that.

        A host that was there is waited for; one that never was, because its name is unknown or
        nobody listens, is told of at once.
        """
        for number in range(MAX_RETRIES + 1):
            last = number == MAX_RETRIES or not repeatable
            try:
                response = attempt()
            except requests.RequestException as error:
                if last or not is_passing(error) or (not self._answered and _is_absent(error)):
                    raise self.unreachable(error) from error
                self.pause(number)
                continue
            self._answered = True
            if last or response.status_code not in RETRIED_STATUSES:
                return response
            delay = retry_after(response)
            if delay is not None and delay > MAX_RETRY_AFTER:
                return response
            response.close()
            self.pause(number, delay)
        raise AssertionError("the last attempt returns or raises")

    def once(
        self,
        method: str,
        url: str,
        body: Body,
        headers: Mapping[str, str],
        *,
        authorization: str,
        answer_within: float = READ_TIMEOUT,
    ) -> requests.Response:
        """One attempt. Redirects of reads are followed by hand: our credentials go to the origin
        alone. Raises requests' own errors."""
        for _ in range(MAX_REDIRECTS + 1):
            sent = dict(headers)
            if authorization and self.is_own(url):
                sent["Authorization"] = authorization
            response = self.send(method, url, body, sent, answer_within=answer_within)
            target = response.headers.get("Location", "")
            reads = method in {"GET", "HEAD"}
            if response.status_code not in _REDIRECTS or not target or not reads:
                return response
            response.close()
            url = self.checked(joined(url, target))
        raise RegistryError(
            f"{self.name} redirects in circles", hint="check its address, or tell whoever runs it"
        )

    def send(
        self,
        method: str,
        url: str,
        body: Body | Mapping[str, str | Sequence[str]],
        headers: Mapping[str, str],
        parameters: Mapping[str, str | Sequence[str]] | None = None,
        *,
        answer_within: float = READ_TIMEOUT,
    ) -> requests.Response:
        """One request, no redirect followed. Raises ShuttingDown once cancelled."""
        self.go_on()
        response: requests.Response = self.session.request(
            method,
            url,
            params=parameters,
            data=body,
            headers=dict(headers),
            stream=True,
            allow_redirects=False,
            timeout=(CONNECT_TIMEOUT, answer_within),
            verify=self._verify,
            proxies=proxies_for(url, self._settings.proxy),
        )
        return response

    def go_on(self) -> None:
        """Raises ShuttingDown once cancelled."""
        if self._cancelled.is_set():
            raise ShuttingDown("the transfer was cancelled")

    def pause(self, attempt: int, delay: float | None = None) -> None:
        """Waits before the next attempt; raises ShuttingDown when cancelled meanwhile."""
        jitter = random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing
        if self._cancelled.wait(0.25 * 2**attempt * jitter if delay is None else delay):
            raise ShuttingDown("the transfer was cancelled")

    def refusal(self, response: requests.Response, doing: str) -> RegistryError:
        """What a status of 400 and more means, in one line; the body is read."""
        return self.refused(response, read_capped(response, MAX_ERROR_BODY), doing)

    def refused(self, response: requests.Response, content: bytes, doing: str) -> RegistryError:
        """As `refusal`, for a body that has been read."""
        status = response.status_code
        detail = content.decode("utf-8", "replace")
        delay = retry_after(response)
        later = f" (it asks to wait {delay:.0f} s)" if delay else ""
        return RegistryError(
            f"{self.name} answered {status} when {doing}{later}{_explanation(detail)}",
            hint=_NEXT.get(status, ""),
        )

    def is_own(self, url: str | None) -> bool:
        """Whether a URL belongs to the origin, so that it may see our credentials."""
        parts, own = urlsplit(url or ""), urlsplit(self.base_url)
        return (parts.scheme, parts.netloc) == (own.scheme, own.netloc)

    def unreachable(self, error: Exception) -> RegistryError:
        """One line for a connection that failed, with what to do about it."""
        if isinstance(error, requests.exceptions.SSLError):
            return RegistryError(
                f"no trusted TLS connection to {self.name}: {_root(error)}",
                hint=self._advice.trust,
            )
        if isinstance(error, requests.exceptions.ProxyError):
            return RegistryError(
                f"the proxy for {self.name} does not answer: {_root(error)}",
                hint="check the setting proxy, or HTTP_PROXY and HTTPS_PROXY",
            )
        if isinstance(error, requests.Timeout):
            return RegistryError(f"{self.name} took too long to answer", hint="try again later")
        return RegistryError(f"can't reach {self.name}: {_root(error)}", hint=self._advice.reach)

    def checked(self, url: str) -> str:
        """An address that the origin sends us to; raises RegistryError for one in clear where
        the origin is not, and for what is no web address."""
        in_clear = urlsplit(self.base_url).scheme == "http"
        allowed = {"http", "https"} if in_clear else {"https"}
        try:
            parts = urlsplit(url)
            is_address = bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_address = False
        if not is_address or parts.scheme not in allowed:
            raise RegistryError(
                f"{self.name} redirects to {url[:200]!r}, which is refused",
                hint="tell whoever runs it: what is asked for under TLS must stay there",
            )
        return url


class _Adapter(HTTPAdapter):
    """Larger blocks than http.client's 8 KiB: model files are long."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - requests' own
        super().init_poolmanager(*args, **kwargs, blocksize=BLOCK)


def read_capped(
    response: requests.Response, limit: int, go_on: Callable[[], None] = lambda: None
) -> bytes:
    """At most `limit` bytes of a body, and the connection is done with.

    `go_on` is asked as the bytes come. Raises requests' own errors, a Timeout too where they come
    so slowly that the whole takes longer than BODY_WITHIN.
    """
    content, until = bytearray(), time.monotonic() + BODY_WITHIN
    with response, _as_requests():
        while len(content) < limit and (piece := response.raw.read1(BLOCK, decode_content=True)):
            content += piece
            go_on()
            if time.monotonic() > until:
                raise requests.Timeout("the answer comes too slowly")
    return bytes(content[:limit])


def read_into(response: requests.Response, target: memoryview) -> int:
    """Fills `target` with a body's next bytes, undecoded, and says how many came; 0 at the end.

    urllib3's own readinto makes new bytes and copies them, so this asks http.client beneath it,
    and does what urllib3 does then: http.client takes a body that was cut short for a whole one,
    and a connection goes back to the pool at the body's end. Raises urllib3's, http.client's and
    the system's errors.
    """
    raw = response.raw
    beneath: HTTPResponse | None = getattr(raw, "_original_response", None)
    if beneath is None:
        return int(raw.readinto(target))
    count = beneath.readinto(target)
    if target and not count and beneath.length:
        raise IncompleteRead(b"", beneath.length)
    if beneath.isclosed():
        raw.release_conn()
    return count


@contextmanager
def _as_requests() -> Iterator[None]:
    """urllib3's errors as those that requests makes of them."""
    from urllib3 import exceptions

    try:
        yield
    except exceptions.ReadTimeoutError as error:
        raise requests.ReadTimeout(error) from error
    except (exceptions.HTTPError, OSError) as error:
        if isinstance(error, requests.RequestException):
            raise
        raise requests.ConnectionError(error) from error


def is_passing(error: BaseException | None) -> bool:
    """Whether another attempt may end better."""
    lasting = (requests.exceptions.SSLError, requests.exceptions.InvalidURL)
    passing = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, passing) and not isinstance(error, lasting)


def _is_absent(error: BaseException) -> bool:
    """Whether no connection came about at all."""
    from urllib3.exceptions import NewConnectionError

    reason = error.args[0] if error.args else None
    return isinstance(getattr(reason, "reason", None), NewConnectionError)


def retry_after(response: requests.Response) -> float | None:
    """Seconds that the registry asks us to wait."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def joined(url: str, target: str) -> str:
    """Where a Location leads; what is no address at all stays as it is, to be refused."""
    try:
        return urljoin(url, target)
    except ValueError:
        return target


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
