"""Pull from hubs: a model of Hugging Face or ModelScope straight into the store, as an artifact.

Every file comes from one commit, which the artifact's annotations name, and is checked by what
the hub lists for it: its SHA-256, or git's SHA-1. The same files of a commit give the same
artifact.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from runner.artifacts.artifact import parse_manifest
from runner.artifacts.artifact_writer import Contents, Packed, PackedFile, write_artifact
from runner.artifacts.media import REVISION, SOURCE, Dialect, ModelFormat
from runner.errors import BadInput, BadModelFile
from runner.hubs.choice import choose
from runner.hubs.listing import Listing
from runner.models.describe import folder_config
from runner.models.folder import Folder, FolderFile
from runner.models.hub_files import HubFetch, plan
from runner.models.progress import Progress, silent, summed
from runner.models.transfer import tell_pulled
from runner.registry.reference import Reference
from runner.store.attempts import Attempts
from runner.store.files import explained
from runner.store.store import ModelStore
from runner.store.stored import StoredModel

if TYPE_CHECKING:
    from runner.settings import Settings


def pull_from_hub(
    store: ModelStore,
    reference: Reference,
    settings: Settings,
    progress: Progress = silent,
    cancelled: threading.Event | None = None,
    *,
    token: str = "",
) -> StoredModel:
    """Brings a hub's model into the store, fetching only what is not there.

    The reference's tag chooses among the files as `hubs.choice` says; its revision is resolved to
    a commit first. `token` goes before the environment's own. A pull that fails or is `cancelled`
    (ShuttingDown) leaves no tag, and the next one goes on where it ended. Raises ModelNotFound,
    RegistryUnauthorized, RegistryError, CorruptTransfer, BadInput, BadModelFile, Unsupported,
    DiskFull, Unavailable.
    """
    from runner.hubs.repository import opened_repository

    stop = cancelled or threading.Event()
    with opened_repository(reference, settings, stop, token) as repository:
        listing = repository.listing
        choice = choose(listing.repository, listing.files, reference.tag)
        planned = plan(store, repository, choice)
        store.blobs.sweep()
        attempts = Attempts()
        while True:
            fetch = HubFetch(store, repository, reference, summed(progress), stop)
            packed = _packed(store, listing, fetch.fetch(planned))
            parse_manifest(packed.manifest)
            with attempts.one():
                model = store.commit(packed.manifest, packed.config, reference)
                tell_pulled(progress, reference, model, fetch.fetched)
                return model


def _packed(store: ModelStore, listing: Listing, files: tuple[PackedFile, ...]) -> Packed:
    with _laid_out(store, files) as folder:
        try:
            config = folder_config(folder)
        except BadInput as error:
            message = error.message.replace(str(folder.path), listing.repository)
            raise BadModelFile(message, hint=error.hint) from error
    contents = Contents(
        config=config,
        files=files,
        annotations={SOURCE: listing.page, REVISION: listing.commit},
        created=listing.modified,
    )
    by_kind = config.format in {ModelFormat.GGUF, ModelFormat.DDUF}
    return write_artifact(contents, Dialect.DOCKER_V01 if by_kind else Dialect.DOCKER_V02)


@contextmanager
def _laid_out(store: ModelStore, files: Sequence[PackedFile]) -> Iterator[Folder]:
    """The files under their names, as links, for as long as they are looked at."""
    with TemporaryDirectory(prefix="runner-") as name:
        root = Path(name)
        for file in files:
            link = root / file.name
            with explained(link):
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(store.blobs.path(file.digest).absolute())
        yield Folder(root, tuple(FolderFile(file.name, file.size, file.kind) for file in files))
