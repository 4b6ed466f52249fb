"""A registry's verbs: manifests and blobs. Sync; one object per registry host."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from runner.errors import CorruptTransfer, ModelNotFound, RegistryError
from runner.registry.digest import PREFIX, digest_of, is_digest
from runner.registry.media import DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from runner.registry.pages import names_in
from runner.registry.reference import DOCKER_HUB, DOCKER_HUB_API, Reference

if TYPE_CHECKING:
    import requests
    from oras.container import Container

    from runner.registry.credentials import Credentials
    from runner.registry.source import HttpSource
    from runner.settings import Settings

ACCEPTED_MANIFESTS = ", ".join((OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX))
MAX_MANIFEST = 4 * 1024 * 1024
_OK, _NOT_FOUND = 200, 404

Report = Callable[[int], None]
"""Told how many bytes of a blob have passed so far."""


@dataclass(frozen=True, slots=True)
class RawManifest:
    """A manifest as the registry keeps it; `digest` is that of `content`."""

    content: bytes
    media_type: str
    digest: str


class RegistryClient:
    """Talks to one registry, over http where it is local or listed as insecure, else https.

    `credentials` stand in for those that a login left. Safe to share between threads. Raises
    RegistryError, RegistryUnauthorized, CorruptTransfer, ModelNotFound, and ShuttingDown once
    `cancelled` is set.
    """

    def __init__(
        self,
        registry: str,
        settings: Settings,
        *,
        cancelled: threading.Event | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        from runner.registry.session import RegistrySession

        api_host = DOCKER_HUB_API if registry == DOCKER_HUB else registry
        self.registry = registry
        self._api_host = api_host
        self._session = RegistrySession(registry, api_host, settings, cancelled, credentials)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._session.session.close()

    def get_manifest(self, reference: Reference) -> RawManifest:
        """The manifest's own bytes, whose digest is checked against every digest announced."""
        from runner.registry.http import read_capped

        response = self._session.request(
            "GET", self._manifest_url(reference), headers={"Accept": ACCEPTED_MANIFESTS}
        )
        if response.status_code == _NOT_FOUND:
            response.close()
            raise ModelNotFound(
                f"{reference.short} is not at {self.registry}",
                hint="check the name and tag",
            )
        self._session.raise_for(response, f"asked for {reference.short}", reference.repository)
        content = self._read(
            response, lambda: read_capped(response, MAX_MANIFEST + 1, self._session.http.go_on)
        )
        if len(content) > MAX_MANIFEST:
            raise RegistryError(
                f"the manifest of {reference.short} is larger than 4 MiB",
                hint="it is no model's: check the name and tag",
            )
        media_type = _media_type(response)
        if media_type == "text/html" or content.lstrip()[:1] == b"<":
            raise RegistryError(
                f"{self.registry} answered with a web page instead of a manifest",
                hint="a proxy or login page may stand between: check the registry's name",
            )
        digest = digest_of(content)
        for announced in (reference.digest, response.headers.get("Docker-Content-Digest", "")):
            if announced.startswith(PREFIX) and announced != digest:
                raise CorruptTransfer(
                    f"the manifest of {reference.short} is {digest}, announced was {announced}",
                    hint="try again",
                )
        return RawManifest(content, media_type, digest)

    def head_manifest(self, reference: Reference) -> tuple[str, str] | None:
        """A manifest's digest and media type as the registry states them; None where it has
        none of that name."""
        headers = {"Accept": ACCEPTED_MANIFESTS}
        url = self._manifest_url(reference)
        with self._session.request("HEAD", url, headers=headers) as answer:
            if answer.status_code == _NOT_FOUND:
                return None
            self._session.raise_for(answer, f"asked for {reference.short}", reference.repository)
            digest = answer.headers.get("Docker-Content-Digest", "")
            media_type = _media_type(answer)
        if is_digest(digest):
            return digest, media_type
        found = self.get_manifest(reference)
        return found.digest, found.media_type

    def put_manifest(self, reference: Reference, content: bytes, media_type: str) -> str:
        """Stores a manifest under the reference's tag, else its digest; returns its digest."""
        response = self._session.request(
            "PUT",
            self._manifest_url(reference),
            body=content,
            headers={"Content-Type": media_type},
            push=True,
        )
        with response:
            self._session.raise_for(response, f"given {reference.short}", reference.repository)
            digest = digest_of(content)
            announced = response.headers.get("Docker-Content-Digest", digest)
        if announced != digest:
            raise CorruptTransfer(
                f"{self.registry} kept {announced} instead of {digest}", hint="push it again"
            )
        return digest

    def check_login(self) -> None:
        """Asks for nothing but to be let in. Raises RegistryUnauthorized where the registry
        refuses, RegistryError where none answers."""
        with self._session.request("GET", f"{self._session.http.base_url}/v2/") as answer:
            self._session.raise_for(answer, "asked for its API", "")

    def catalog(self) -> Iterator[str]:
        """All repositories, for registries that list them. Raises RegistryError, as `tags`."""
        url = f"{self._session.http.base_url}/v2/_catalog"
        return names_in(self._session, url, "repositories", "asked for its catalogue")

    def tags(self, repository: str) -> Iterator[str]:
        """All tags of a repository."""
        url = self._url(self._container(repository).tags_url())
        doing = f"asked for the tags of {repository}"
        return names_in(self._session, url, "tags", doing, repository)

    def has_blob(self, repository: str, digest: str, *, push: bool = False) -> bool:
        """Whether the repository holds a blob; `push` asks with a token that may also write."""
        with self._session.request("HEAD", self._blob_url(repository, digest), push=push) as answer:
            if answer.status_code == _NOT_FOUND:
                return False
            self._session.raise_for(answer, f"asked for {digest}", repository)
            return answer.status_code == _OK

    def blob_source(self, repository: str, digest: str) -> HttpSource:
        """A blob to be read in ranges, by several threads at once."""
        from runner.registry.source import HttpSource

        url = self._blob_url(repository, digest)

        def request(headers: Mapping[str, str]) -> requests.Response:
            return self._session.request("GET", url, headers=headers)

        def refusal(response: requests.Response) -> RegistryError:
            return self._blob_refusal(response, repository, digest)

        return HttpSource(self._session.http, request, refusal)

    def upload_blob(
        self,
        repository: str,
        path: Path,
        digest: str,
        report: Report,
        mount_from: Sequence[str] = (),
    ) -> bool:
        """Brings a file into the repository; False where the blob was there already.

        The registry takes it from a repository of `mount_from` that holds it, where it can.
        Raises CorruptTransfer where the file's bytes are not those of the digest.
        """
        from runner.registry.upload import Upload

        def is_there() -> bool:
            return self.has_blob(repository, digest, push=True)

        if is_there():
            return False
        url = self._url(self._container(repository).upload_blob_url())
        with path.open("rb", buffering=0) as file:
            size = path.stat().st_size
            upload = Upload(self._session, url, repository, digest, file, size, report)
            if not upload.mount(mount_from):
                upload.send(is_there)
        return True

    def _blob_refusal(
        self, response: requests.Response, repository: str, digest: str
    ) -> RegistryError:
        if response.status_code == _NOT_FOUND:
            response.close()
            return RegistryError(
                f"{self.registry} has no blob {digest} in {repository}",
                hint="the model was pushed incompletely: push it again",
            )
        return self._session.refusal(response, f"asked for {digest}", repository)

    def _read(self, response: requests.Response, read: Callable[[], bytes]) -> bytes:
        import requests

        try:
            return read()
        except requests.RequestException as error:
            response.close()
            raise self._session.http.unreachable(error) from error

    def _container(self, repository: str) -> Container:
        from oras.container import Container

        container = Container("x", registry=self._api_host)
        container.namespace, container.repository = "", repository  # its own parser errs on ports
        return container

    def _manifest_url(self, reference: Reference) -> str:
        container = self._container(reference.repository)
        return self._url(container.manifest_url(reference.digest or reference.tag))

    def _blob_url(self, repository: str, digest: str) -> str:
        if not is_digest(digest):
            raise RegistryError(f"{digest!r} is not a digest")
        return self._url(self._container(repository).get_blob_url(digest))

    def _url(self, without_scheme: str) -> str:
        return f"{self._session.prefix}://{without_scheme}"


def _media_type(response: requests.Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip()
