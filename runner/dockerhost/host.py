"""A connection to the Docker Engine of this machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from runner.dockerhost.address import check_socket, docker_address
from runner.dockerhost.facts import DockerFacts, docker_facts
from runner.dockerhost.failures import translated
from runner.dockerhost.images import NEVER, ImageFacts, Images
from runner.errors import DockerUnavailable

if TYPE_CHECKING:
    from docker import DockerClient

CONNECT_TIMEOUT_S = 10
CALL_TIMEOUT_S = 120
MAX_CONNECTIONS = 64
"""Idle connections kept: waits and followed logs of many instances hold one each."""


class DockerHost:
    """The Docker Engine that the `docker` command would talk to, by DOCKER_HOST or context.

    Connects at the first call that needs it, and tries again at the next one where that failed.
    Calls block; they may be made from several threads. All raise DockerUnavailable, with the
    next step: no answer, no permission, a remote host.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._lock = threading.Lock()
        self._client: DockerClient | None = None
        self._images: Images | None = None

    @property
    def url(self) -> str:
        """The address, such as `unix:///var/run/docker.sock`."""
        return docker_address(self._environment)

    @property
    def client(self) -> DockerClient:
        with self._lock:
            if self._client is None:
                self._client = _connected(self.url)
            return self._client

    @contextmanager
    def translated(self) -> Iterator[DockerClient]:
        """The SDK's own client; what it raises inside leaves as a RunnerError."""
        client = self.client
        with translated():
            yield client

    def facts(self) -> DockerFacts:
        with self.translated() as client:
            return docker_facts(client.info())

    def has_image(self, reference: str) -> bool:
        return self._store().has(reference)

    def inspect_image(self, reference: str) -> ImageFacts | None:
        """What is known of a local image, None where there is none. `reference` may be an ID.

        On the containerd store the first call for an image reads it to find its config digest:
        seconds per GB; `has_image` is always quick.
        """
        return self._store().inspect(reference)

    def find_image(self, label: str, value: str, repositories: Collection[str]) -> str | None:
        """The ID of a local image that carries this label and has a name in one of these."""
        return self._store().find(label, value, repositories)

    def tag_image(self, reference: str, name: str) -> None:
        """Gives an image one more name."""
        self._store().tag(reference, name)

    def pull_image(
        self,
        reference: str,
        report: Callable[[str], None],
        cancelled: threading.Event = NEVER,
    ) -> ImageFacts:
        """Pulls with the credentials of `docker login`, reporting each step of each layer.

        Raises NotFound, RegistryUnauthorized, RegistryError, DiskFull; Unavailable once
        `cancelled` is set.
        """
        return self._store().pull(reference, report, cancelled)

    def read_from_image(self, reference: str, path: str) -> bytes | None:
        """A file of at most 16 MiB out of an image; None where it has none."""
        return self._store().read(reference, path)

    def remove_image(self, reference: str) -> None:
        """Removes a tag, or an image by its ID; gone is fine. Raises Conflict while in use."""
        self._store().remove(reference)

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = self._images = None

    def _store(self) -> Images:
        if self._images is None:
            self._images = Images(self.client, containerd=self.facts().containerd_store)
        return self._images


def _connected(url: str) -> DockerClient:
    check_socket(url)

    from docker import DockerClient
    from docker.errors import DockerException

    try:
        client = DockerClient(
            base_url=url, version="auto", timeout=CONNECT_TIMEOUT_S, max_pool_size=MAX_CONNECTIONS
        )
    except DockerException as error:
        raise DockerUnavailable(
            f"what answers on {url} is not Docker: {error}",
            hint="is DOCKER_HOST, or what `docker context ls` shows as current, right?",
        ) from error
    client.api.timeout = CALL_TIMEOUT_S
    return client
