"""One repository of a hub at one commit: its listing, and the bytes of its files.

Imported late, as `session` is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runner.hubs.listing import HubFile, Listing
from runner.hubs.session import HubSession
from runner.registry.reference import Reference, Source
from runner.registry.source import HttpSource, read_range

if TYPE_CHECKING:
    import threading

    from runner.settings import Settings

_SourceOf = Callable[[HubSession, Listing, HubFile], HttpSource]


@dataclass(frozen=True, slots=True)
class Repository:
    """`listing` says which commit it is at."""

    listing: Listing
    _session: HubSession
    _source_of: _SourceOf

    def source(self, file: HubFile) -> HttpSource:
        """A file's bytes, in any ranges and by several threads."""
        return self._source_of(self._session, self.listing, file)

    def read(self, file: HubFile, end: int) -> bytes:
        """A file's first bytes, `end` of them or as many as it has. Raises as its source does."""
        return read_range(self.source(file), min(end, file.size))


@contextmanager
def opened_repository(
    reference: Reference, settings: Settings, cancelled: threading.Event, token: str = ""
) -> Iterator[Repository]:
    """The repository that a reference names, at the commit that its revision stands for now.

    Raises ModelNotFound, RegistryUnauthorized, RegistryError, BadReference, Unavailable,
    ShuttingDown.
    """
    session = HubSession(reference.source, settings, cancelled, token)
    try:
        listing, source_of = _listed(session, reference)
        yield Repository(listing, session, source_of)
    finally:
        session.close()


def _listed(session: HubSession, reference: Reference) -> tuple[Listing, _SourceOf]:
    name, revision = reference.repository, reference.revision
    if reference.source is Source.MODELSCOPE:
        from runner.hubs import modelscope

        return modelscope.list_files(session, name, revision), modelscope.source_of
    from runner.hubs import huggingface

    return huggingface.list_files(session, name, revision), huggingface.source_of
