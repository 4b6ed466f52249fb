"""What the `docker` SDK raises, as the project's own errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runner.dockerhost.address import start_hint
from runner.errors import (
    BadInput,
    Conflict,
    DiskFull,
    DockerUnavailable,
    NotFound,
    RegistryError,
    RegistryUnauthorized,
    RunnerError,
    Unsupported,
)

CONFLICT = 409
NOT_FOUND = 404
DOCKER_HUB = "docker.io"


@contextmanager
def translated() -> Iterator[None]:
    """Any failure of the SDK inside leaves as a RunnerError: NotFound, Conflict, DiskFull, …"""
    from docker.errors import APIError, DockerException
    from requests.exceptions import RequestException

    try:
        yield
    except APIError as error:
        raise _refusal(error.status_code, error.explanation or str(error)) from error
    except (DockerException, RequestException, OSError) as error:
        raise DockerUnavailable(f"Docker stopped answering: {error}", hint=start_hint()) from error


def pull_failure(reference: str, explanation: str) -> RunnerError:
    """Why a pull ended, from the text that the Docker Engine gives."""
    if _disk_full(explanation.lower()):
        return _no_space(explanation)
    registry = _registry(reference)
    login = f"docker login {registry}".strip()
    known = next((one for one in _PULLS if one.words.search(explanation)), _OTHER)
    return known.error(
        f"{known.message.format(image=reference)}: {explanation}",
        hint=known.hint.format(registry=registry or "Docker Hub", login=login),
    )


@dataclass(frozen=True, slots=True)
class _Pull:
    """Words of a Docker Engine or a registry, what they mean, and the next step."""

    words: re.Pattern[str]
    error: type[RunnerError]
    message: str
    hint: str


_NAMED = "(`image` in an engine's engine.yaml, or the setting `image_registry`)"
_FAILED = "pulling {image} failed"
_PULLS = tuple(
    _Pull(re.compile(words, re.IGNORECASE), error, message, hint)
    for words, error, message, hint in (
        (
            r"toomanyrequests|too many requests|rate limit",
            RegistryError,
            _FAILED,
            "wait, or `{login}` for a higher limit and `runner restart-runner`; then install again",
        ),
        (
            r"unauthorized|denied|no basic auth|authentication required|authorization failed"
            r"|403 forbidden",
            RegistryUnauthorized,
            "no permission to pull {image}",
            f"check the name {_NAMED}; if it is right: `{{login}}`, `runner restart-runner`, "
            "then install again",
        ),
        (
            r"no matching manifest|does not match the specified platform",
            Unsupported,
            "there is no image {image} for this platform",
            f"name one that there is for it {_NAMED}",
        ),
        (
            r"no such host|name resolution|server misbehaving|name or service not known",
            RegistryError,
            _FAILED,
            f"is the registry's name, {{registry}}, right {_NAMED}? If it is, this Docker can't "
            "look it up: check its network, DNS and proxy",
        ),
        (
            r"not found|manifest unknown|name unknown",
            NotFound,
            "there is no image {image}",
            f"check its name and tag {_NAMED}; `docker pull` shows whether it can be had",
        ),
        (
            r"invalid reference format|must be lowercase",
            BadInput,
            "{image} is not an image's name",
            f"correct it {_NAMED}: REGISTRY/NAME:TAG",
        ),
        (
            r"x509|http response to https client|certificate",
            RegistryError,
            _FAILED,
            "the Docker Engine pulls images by its own settings: tell it of the CA or registry",
        ),
        (
            r"connection refused|unreachable|no route to host|proxyconnect|timeout"
            r"|deadline exceeded",
            RegistryError,
            _FAILED,
            f"does {{registry}} answer under that name and port {_NAMED}? If it does, check the "
            "network and proxy of this Docker (`docker info` shows it)",
        ),
    )
)
"""The first that fits counts."""
_OTHER = _Pull(
    re.compile(""),
    RegistryError,
    _FAILED,
    "install again, which goes on from here; `docker pull` may tell more",
)


def _registry(reference: str) -> str:
    """As Docker reads it; "" for Docker Hub, whose images need not name it."""
    first, slash, _ = reference.partition("/")
    names_one = slash and ("." in first or ":" in first or first == "localhost")
    return first if names_one and first != DOCKER_HUB else ""


def _refusal(status: int | None, explanation: str) -> RunnerError:
    if _disk_full(explanation.lower()):
        return _no_space(explanation)
    if status == NOT_FOUND:
        return NotFound(explanation)
    if status == CONFLICT:
        return Conflict(explanation)
    return RunnerError(f"Docker refused: {explanation}")


def _disk_full(said: str) -> bool:
    return "no space left on device" in said


def _no_space(explanation: str) -> DiskFull:
    return DiskFull(
        f"Docker's disk is full: {explanation}", hint="`docker system df` shows what takes it"
    )
