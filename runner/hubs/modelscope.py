"""ModelScope: what a repository holds at a revision.

Its own SDK brings a framework along and writes caches, so its HTTP API is asked directly:
`/repo/files` lists a repository (`Files` is null for a revision that does not exist), with the
SHA-256 of each file; `/repo?Revision=&FilePath=` gives a file's bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from runner.errors import ModelNotFound, RegistryError
from runner.hubs.listing import MAX_FILES, HubFile, Listing, unique
from runner.hubs.session import quoted
from runner.registry.digest import digest_from, is_digest

if TYPE_CHECKING:
    from runner.hubs.session import HubSession
    from runner.registry.source import HttpSource

MAIN = "master"
COMMIT_LENGTH = 40

Json = Any
"""Whatever a JSON text holds, until it is checked."""


def list_files(session: HubSession, repository: str, revision: str = "") -> Listing:
    """The files at a branch, tag or commit. Raises as Hugging Face's."""
    asked = {"Revision": revision or MAIN, "Recursive": "True"}
    data = _data(session, repository, f"repo/files?{urlencode(asked)}")
    entries = data.get("Files")
    if entries is None:
        raise ModelNotFound(
            f"{repository} at {session.name} has no revision {revision or MAIN!r}",
            hint=f"its branches are at {session.page(repository)}",
        )
    try:
        blobs = [entry for entry in entries if entry["Type"] == "blob"]
        if len(blobs) > MAX_FILES:
            raise RegistryError(
                f"{repository} has more than {MAX_FILES} files",
                hint="name a repository of one model",
            )
        return Listing(
            repository=repository,
            page=session.page(repository),
            commit=_commit(data, blobs) or revision or MAIN,
            modified=_modified(data, blobs),
            files=unique([_file(entry) for entry in blobs], session.name),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _other_words(session) from error


def source_of(session: HubSession, listing: Listing, file: HubFile) -> HttpSource:
    """A file's bytes, at the listing's commit."""
    asked = urlencode({"Revision": listing.commit, "FilePath": file.path})
    return session.bytes_of(listing, file, _address(session, listing.repository, f"repo?{asked}"))


def _address(session: HubSession, repository: str, rest: str) -> str:
    return f"{session.endpoint}/api/v1/models/{quoted(repository)}/{rest}"


def _data(session: HubSession, repository: str, rest: str) -> Mapping[str, Json]:
    _, content = session.document(_address(session, repository, rest), repository)
    try:
        data = json.loads(content)["Data"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _other_words(session) from error
    if not isinstance(data, dict):
        raise _other_words(session)
    return data


def _file(entry: Mapping[str, Json]) -> HubFile:
    path, size, digest = entry["Path"], entry["Size"], digest_from(str(entry.get("Sha256")))
    if not isinstance(path, str) or not isinstance(size, int) or size < 0 or not is_digest(digest):
        raise ValueError(entry)
    return HubFile(path, size, digest)


def _commit(data: Mapping[str, Json], blobs: list[Mapping[str, Json]]) -> str:
    """The whole name of the commit that the listing is of: the hub tells its beginning, and each
    file the commit that it was last changed in."""
    last = data.get("LatestCommitter") or {}
    beginning = str(last.get("ShortId") or "")
    known = [str(last.get("Id") or ""), *(str(entry.get("Revision") or "") for entry in blobs)]
    whole = [commit for commit in known if len(commit) == COMMIT_LENGTH]
    return next((commit for commit in whole if beginning and commit.startswith(beginning)), "")


def _modified(data: Mapping[str, Json], blobs: list[Mapping[str, Json]]) -> int:
    last = data.get("LatestCommitter") or {}
    times = [last.get("CommittedDate"), *(entry.get("CommittedDate") for entry in blobs)]
    return max((time for time in times if isinstance(time, int)), default=0)


def _other_words(session: HubSession) -> RegistryError:
    return RegistryError(
        f"{session.name} does not answer as ModelScope does",
        hint="check the setting modelscope_endpoint, or MODELSCOPE_ENDPOINT",
    )
