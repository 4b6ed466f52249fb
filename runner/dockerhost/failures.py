"""What the `docker` SDK raises, as the project's own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runner.dockerhost.address import start_hint
from runner.errors import (
    Conflict,
    DiskFull,
    DockerUnavailable,
    NotFound,
    RegistryError,
    RegistryUnauthorized,
    RunnerError,
)

CONFLICT = 409
NOT_FOUND = 404


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
    said = explanation.lower()
    if _disk_full(said):
        return _no_space(explanation)
    if "unauthorized" in said or "denied" in said or "no basic auth" in said:
        registry = reference.partition("/")[0]
        return RegistryUnauthorized(
            f"no permission to pull {reference}: {explanation}",
            hint=f"`docker login {registry}` first",
        )
    if "not found" in said or "manifest unknown" in said:
        return NotFound(f"there is no image {reference}: {explanation}")
    hint = ""
    if "x509" in said or "http response to https client" in said:
        hint = "the Docker Engine pulls images by its own settings: tell it of the CA or registry"
    return RegistryError(f"pulling {reference} failed: {explanation}", hint=hint)


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
