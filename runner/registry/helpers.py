"""Docker's credential helpers: programs named `docker-credential-…` that keep logins."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runner.errors import RegistryError

if TYPE_CHECKING:
    from docker.credentials import Store


def get(helper: str, server: str) -> tuple[str, str] | None:
    """The name and secret that a helper holds for a server, None for none.

    Raises RegistryError where the helper fails, as do the others here.
    """
    from docker.credentials.errors import CredentialsNotFound

    with _explained(helper):
        try:
            found = _program(helper).get(server)  # type: ignore[no-untyped-call]
        except CredentialsNotFound:
            return None
        return str(found["Username"]), str(found["Secret"])


def store(helper: str, server: str, username: str, secret: str) -> None:
    """Has a helper keep a login."""
    with _explained(helper):
        _program(helper).store(server, username, secret)  # type: ignore[no-untyped-call]


def erase(helper: str, server: str) -> bool:
    """Has a helper forget a login; False where it held none."""
    if get(helper, server) is None:
        return False
    with _explained(helper):
        _program(helper).erase(server)
    return True


def _program(helper: str) -> Store:
    from docker.credentials import Store

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing program also raises, when it is used
        return Store(helper)


@contextmanager
def _explained(helper: str) -> Iterator[None]:
    from docker.credentials.errors import StoreError

    try:
        yield
    except (StoreError, OSError, ValueError, KeyError, TypeError) as error:
        raise RegistryError(
            f"the credential helper docker-credential-{helper} failed: {error}",
            hint="check that it is installed, or mend credsStore and credHelpers in Docker's"
            " config.json",
        ) from error
