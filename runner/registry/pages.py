"""Lists that a registry gives in pages, each naming the next in its Link header."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from runner.errors import RegistryError

if TYPE_CHECKING:
    import requests

    from runner.registry.session import RegistrySession

PAGE = 1000
MAX_PAGES = 10_000
MAX_BODY = 4 * 1024 * 1024
_NAME_IT = "name the model itself: runner inspect --remote NAME"


def names_in(
    session: RegistrySession, url: str, key: str, doing: str, repository: str = ""
) -> Iterator[str]:
    """The texts that stand under `key`, page by page as they are asked for.

    Raises RegistryError, also for lists without an end, and RegistryUnauthorized.
    """
    following = f"{url}?n={PAGE}"
    for _ in range(MAX_PAGES):
        with session.request("GET", following) as response:
            session.raise_for(response, doing, repository)
            found = _texts(session, response, key)
            target = response.links.get("next", {}).get("url", "")
        yield from found
        if not target:
            return
        following = urljoin(following, target)
        if not session.http.is_own(following):
            raise RegistryError(
                f"{session.registry} continues its list at another host",
                hint=_NAME_IT,
            )
    raise RegistryError(
        f"{session.registry} lists names without an end",
        hint=_NAME_IT,
    )


def _texts(session: RegistrySession, response: requests.Response, key: str) -> list[str]:
    from runner.registry.http import read_capped

    try:
        found = json.loads(read_capped(response, MAX_BODY))[key]
        return [name for name in found or () if isinstance(name, str)]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RegistryError(
            f"{session.registry} answered with no list of {key}",
            hint="it may keep none: name the model itself, runner inspect --remote NAME",
        ) from error
