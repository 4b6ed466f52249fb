"""What a hub says of a repository at one commit: its files, and how each can be checked. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from runner.errors import CorruptTransfer, RegistryError
from runner.registry.digest import digest_of

MAX_FILES = 20_000


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository. `size` is bytes. `digest` is empty where the hub knows only the
    file's `git_id`, the SHA-1 that git gives it."""

    path: str
    size: int
    digest: str = ""
    git_id: str = ""

    def check(self, content: bytes) -> None:
        """Raises CorruptTransfer where these are not the file's bytes."""
        if self.digest:
            found, expected = digest_of(content), self.digest
        else:
            found, expected = git_id_of(content), self.git_id
        if found != expected:
            raise CorruptTransfer(
                f"{self.path} came with other bytes than the hub announced", hint="try again"
            )


@dataclass(frozen=True, slots=True)
class Listing:
    """A repository at one commit. `page` is its address for people, `commit` a branch's name
    where the hub does not tell the commit, `modified` seconds since 1970 (0: unknown)."""

    repository: str
    page: str
    commit: str
    modified: int
    files: tuple[HubFile, ...]


def git_id_of(content: bytes) -> str:
    """The SHA-1 by which git names a file with this content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def unique(files: list[HubFile], hub: str) -> tuple[HubFile, ...]:
    """The files in the order of their paths; raises RegistryError where a path comes twice."""
    by_path = {file.path: file for file in files}
    if len(by_path) != len(files):
        raise RegistryError(f"{hub} lists a file twice", hint="try again later")
    return tuple(by_path[path] for path in sorted(by_path))
