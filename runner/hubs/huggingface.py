"""Hugging Face: what a repository holds at a revision, by huggingface_hub.

Imported late: huggingface_hub takes longer to import than a quick command may run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx2
from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.hf_api import RepoFile

from runner.errors import BadReference, ModelNotFound, RegistryError
from runner.hubs.door import opened
from runner.hubs.listing import MAX_FILES, HubFile, Listing, unique
from runner.hubs.session import quoted
from runner.registry.digest import digest_from, is_digest

if TYPE_CHECKING:
    from datetime import datetime

    from runner.hubs.session import HubSession
    from runner.registry.source import HttpSource

_UNEXPECTED = (
    *(ValueError, KeyError, TypeError, AttributeError, RecursionError),
    httpx2.InvalidURL,
)
"""What huggingface_hub raises where an answer is not what it expects."""


def list_files(session: HubSession, repository: str, revision: str = "") -> Listing:
    """The files at a branch, tag or commit, all of the one commit it stands for now.

    Raises ModelNotFound, BadReference, RegistryUnauthorized, RegistryError, Unavailable,
    ShuttingDown.
    """
    with asked(session, repository):
        hub = api(session)
        found = hub.model_info(repository, revision=revision or None)
        if not found.sha:
            raise ModelNotFound(
                f"{repository} at {session.name} is empty",
                hint="check the name: nobody has put files there yet",
            )
        files = []
        for entry in hub.list_repo_tree(repository, recursive=True, revision=found.sha):
            if isinstance(entry, RepoFile):
                files.append(_file(entry))
            if len(files) > MAX_FILES:
                raise RegistryError(
                    f"{repository} has more than {MAX_FILES} files",
                    hint="name a repository of one model",
                )
    return Listing(
        repository=repository,
        page=session.page(repository),
        commit=found.sha,
        modified=_seconds(found.last_modified),
        files=unique(files, session.name),
    )


def source_of(session: HubSession, listing: Listing, file: HubFile) -> HttpSource:
    """A file's bytes, at the listing's commit."""
    place = f"{listing.repository}/resolve/{listing.commit}/{quoted(file.path)}"
    return session.bytes_of(listing, file, f"{session.endpoint}/{place}")


def api(session: HubSession) -> HfApi:
    """Looks for no token of its own: ours goes along with each request."""
    return HfApi(endpoint=session.endpoint, token=False)


@contextmanager
def asked(session: HubSession, repository: str = "") -> Iterator[None]:
    """Within it huggingface_hub may be called; what it raises leaves as our errors."""
    try:
        with opened(session, repository):
            yield
    except HFValidationError as error:
        raise BadReference(
            f"{repository!r} is no name at {session.name}", hint="write it as ORGANISATION/NAME"
        ) from error
    except _UNEXPECTED as error:
        raise RegistryError(
            f"{session.name} does not answer as Hugging Face does",
            hint="check the setting hub_endpoint, or HF_ENDPOINT",
        ) from error


def _file(entry: RepoFile) -> HubFile:
    digest = digest_from(entry.lfs.sha256) if entry.lfs else ""
    git_id = "" if digest else entry.blob_id
    if not isinstance(entry.size, int) or entry.size < 0 or (digest and not is_digest(digest)):
        raise ValueError(entry)
    return HubFile(entry.path, entry.size, digest, git_id)


def _seconds(moment: datetime | None) -> int:
    return int(moment.timestamp()) if moment else 0
