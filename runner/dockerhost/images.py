"""Images of a Docker Engine, and what identifies one across Docker hosts."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from runner.dockerhost.failures import pull_failure, translated
from runner.errors import NotFound, RunnerError, Unavailable
from runner.registry.digest import digest_of

if TYPE_CHECKING:
    from docker import DockerClient

MAX_CONFIG = 4 * 1024 * 1024
"""An image config larger than this is none."""
MAX_READ = 16 * 1024 * 1024
"""Bytes of one file of an image; of a longer one a byte more is read, so that it shows."""
TEMPORARY = "io.runner.temporary"
"""Marks a container that is made to look into its image, and never started."""
LOOK_S = 60.0
"""Far longer than one look takes."""
NEVER = threading.Event()
"""For who never gives up."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """A local image.

    `id` is what this Docker host calls it. `config_digest` and `diff_ids` (of unpacked layers,
    lowest first) are the same on every host. `manifest_digest` is "" for an image that has none,
    being built here. `size` is in bytes.
    """

    id: str
    manifest_digest: str
    config_digest: str
    diff_ids: tuple[str, ...]
    repo_digests: tuple[str, ...]
    tags: tuple[str, ...]
    labels: Mapping[str, str]
    size: int
    created: datetime | None


class Images:
    """A Docker Engine's images; with `containerd` their IDs are manifest digests, else configs'."""

    def __init__(self, client: DockerClient, *, containerd: bool) -> None:
        self._client = client
        self._containerd = containerd
        self._configs: dict[str, str] = {}

    def has(self, reference: str) -> bool:
        return self._attributes(reference) is not None

    def inspect(self, reference: str) -> ImageFacts | None:
        attributes = self._attributes(reference)
        if attributes is None:
            return None
        identifier = str(attributes["Id"])
        diff_ids = _layers(attributes)
        repo_digests = tuple(attributes.get("RepoDigests") or ())
        return ImageFacts(
            id=identifier,
            manifest_digest=identifier if self._containerd else _manifest_digest(repo_digests),
            config_digest=self._config_digest(identifier, diff_ids),
            diff_ids=diff_ids,
            repo_digests=repo_digests,
            tags=tuple(attributes.get("RepoTags") or ()),
            labels=dict((attributes.get("Config") or {}).get("Labels") or {}),
            size=int(attributes.get("Size") or 0),
            created=_time(attributes.get("Created")),
        )

    def pull(
        self, reference: str, report: Callable[[str], None], cancelled: threading.Event = NEVER
    ) -> ImageFacts:
        from docker.errors import APIError
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(reference)
        steps = _Steps(report)
        with translated():
            try:
                events = self._client.api.pull(
                    repository, tag or "latest", stream=True, decode=True
                )
                for event in events:
                    if cancelled.is_set():
                        raise Unavailable("the pull was given up", hint="a second try goes on")
                    if "error" in event:
                        raise pull_failure(reference, str(event["error"]))
                    steps.tell(event)
            except APIError as error:
                raise pull_failure(reference, error.explanation or str(error)) from error
        facts = self.inspect(reference)
        if facts is None:
            raise NotFound(
                f"the image {reference} was pulled and is already gone",
                hint="something removes images on this Docker: see that it stops, install again",
            )
        return facts

    def find(self, label: str, value: str, repositories: Collection[str]) -> str | None:
        """Anybody's image may carry any label: only one that has a name in one of these
        `repositories`, which its builder gave it, is taken for his."""
        with translated():
            found = self._client.images.list(filters={"label": f"{label}={value}"})
        ours = (
            one for one in found if any(tag.rpartition(":")[0] in repositories for tag in one.tags)
        )
        return next((str(one.id) for one in ours), None)

    def tag(self, reference: str, name: str) -> None:
        repository, _, tag = name.rpartition(":")
        with translated():
            self._client.images.get(reference).tag(repository, tag=tag)

    def read(self, reference: str, path: str) -> bytes | None:
        """A small file of an image, None where the image has none; nothing of it is run."""
        with translated():
            container = self._client.containers.create(
                reference, command=["-"], network_mode="none", labels={TEMPORARY: "1"}
            )
        try:
            with translated():
                stream, _ = container.get_archive(path)
                return _first_file(stream)
        except NotFound:
            return None
        finally:
            with translated():
                container.remove(force=True, v=True)

    def remove(self, reference: str) -> None:
        try:
            with translated():
                self._remove_looks(reference)
                self._client.api.remove_image(reference)
        except NotFound:
            return

    def _remove_looks(self, reference: str) -> None:
        """Containers of a program that was killed while it looked into the image: it could not be
        removed with them. Younger ones may be another's that looks just now."""
        filters = {"label": TEMPORARY, "ancestor": reference}
        for one in self._client.api.containers(all=True, filters=filters):
            if time.time() - one["Created"] >= LOOK_S:
                with suppress(NotFound), translated():
                    self._client.api.remove_container(one["Id"], force=True, v=True)

    def _attributes(self, reference: str) -> Mapping[str, Any] | None:
        try:
            with translated():
                attributes: Mapping[str, Any] = self._client.images.get(reference).attrs
        except NotFound:
            return None
        return attributes

    def _config_digest(self, identifier: str, diff_ids: tuple[str, ...]) -> str:
        if not self._containerd:
            return identifier
        known = self._configs.get(identifier)
        if known is None:
            known = self._configs[identifier] = self._exported_config(identifier, diff_ids)
        return known

    def _exported_config(self, identifier: str, diff_ids: tuple[str, ...]) -> str:
        """The containerd store states no config digest: the export holds the config itself."""
        with translated():
            export = self._client.api.get_image(identifier)
            found = find_config(export, diff_ids)
        if found is None:
            raise RunnerError(f"the export of image {identifier} holds no config for its layers")
        return found


def _first_file(stream: Iterator[bytes]) -> bytes | None:
    with tarfile.open(fileobj=io.BufferedReader(_Chunks(stream)), mode="r|") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file is not None:
                return file.read(MAX_READ + 1)
    return None


def find_config(export: Iterator[bytes], diff_ids: tuple[str, ...]) -> str | None:
    """The digest of the config with these `diff_ids` in an exported image; reads no further."""
    with tarfile.open(fileobj=io.BufferedReader(_Chunks(export)), mode="r|") as archive:
        for member in archive:
            if not member.isfile() or member.size > MAX_CONFIG:
                continue
            file = archive.extractfile(member)
            content = file.read() if file else b""
            if _diff_ids(content) == diff_ids:
                return digest_of(content)
    return None


class _Steps:
    """Tells what happens to each layer once per step, not once per chunk."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._last: dict[str, str] = {}

    def tell(self, event: Mapping[str, Any]) -> None:
        layer, status = str(event.get("id", "")), str(event.get("status", ""))
        if not status or self._last.get(layer) == status:
            return
        self._last[layer] = status
        total = int((event.get("progressDetail") or {}).get("total") or 0)
        size = f" {total / 1e6:.1f} MB" if total else ""
        self._report(f"{layer}: {status}{size}" if layer else status)


def _layers(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple((attributes.get("RootFS") or {}).get("Layers") or ())


def _manifest_digest(repo_digests: tuple[str, ...]) -> str:
    return repo_digests[0].rpartition("@")[2] if repo_digests else ""


def _diff_ids(content: bytes) -> tuple[str, ...] | None:
    try:
        return tuple(json.loads(content)["rootfs"]["diff_ids"])
    except (ValueError, KeyError, TypeError):
        return None


def _time(text: object) -> datetime | None:
    if not isinstance(text, str) or not text:
        return None
    return datetime.fromisoformat(text)


class _Chunks(io.RawIOBase):
    """A stream of byte strings as a file, holding one of them at a time."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - typeshed's WriteableBuffer is private
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        taken = self._rest[: len(buffer)]
        buffer[: len(taken)] = taken
        self._rest = self._rest[len(taken) :]
        return len(taken)
