"""Images: what identifies one, removal, pulls, and the config digest in an export."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from threading import Event

import pytest
from docker import DockerClient

from runner.dockerhost import DockerHost, images
from runner.dockerhost.images import TEMPORARY, Images, find_config
from runner.errors import Conflict, NotFound, Unavailable

pytestmark = pytest.mark.docker


@pytest.fixture
def host() -> Iterator[DockerHost]:
    host = DockerHost()
    yield host
    host.close()


def test_an_image_is_known_by_its_digests(host: DockerHost, base_image: str) -> None:
    facts = host.inspect_image(base_image)
    assert facts is not None
    assert facts.diff_ids
    assert facts.config_digest.startswith("sha256:")
    assert facts.size > 0
    assert host.inspect_image(facts.id) == facts


def test_one_that_is_not_there_is_none(host: DockerHost) -> None:
    assert host.inspect_image("runner-test/none:1") is None
    assert not host.has_image("runner-test/none:1")
    host.remove_image("runner-test/none:1")


def test_removing_a_tag_keeps_the_image(
    host: DockerHost, base_image: str, docker_client: DockerClient
) -> None:
    tag = f"runner-test/tag-{uuid.uuid4().hex[:8]}:1"
    docker_client.images.get(base_image).tag(tag)
    assert host.has_image(tag)
    host.remove_image(tag)
    assert not host.has_image(tag)
    assert host.has_image(base_image)


def test_an_export_holds_the_config(host: DockerHost, base_image: str) -> None:
    """The way to the config digest on the containerd store, tried on whatever store there is."""
    facts = host.inspect_image(base_image)
    assert facts is not None
    export = host.client.api.get_image(facts.id)
    assert find_config(export, facts.diff_ids) == facts.config_digest
    assert Images(host.client, containerd=True).inspect(base_image) is not None


def test_pulls_from_a_registry(
    host: DockerHost, base_image: str, registry: str, docker_client: DockerClient
) -> None:
    reference = f"{registry}/pulled-{uuid.uuid4().hex[:8]}:1"
    before = host.inspect_image(base_image)
    assert before is not None
    docker_client.images.get(base_image).tag(reference)
    docker_client.images.push(reference)
    host.remove_image(reference)
    steps: list[str] = []
    facts = host.pull_image(reference, steps.append)
    host.remove_image(reference)
    assert facts.manifest_digest.startswith("sha256:")
    assert (facts.config_digest, facts.diff_ids) == (before.config_digest, before.diff_ids)
    assert any("Status: Downloaded" in step for step in steps)


def test_pulling_what_is_not_there_fails_clearly(host: DockerHost, registry: str) -> None:
    with pytest.raises(NotFound, match="no image"):
        host.pull_image(f"{registry}/nothing:1", print)


def test_a_pull_that_nobody_waits_for_is_given_up(
    host: DockerHost, base_image: str, registry: str, docker_client: DockerClient
) -> None:
    reference = f"{registry}/given-up-{uuid.uuid4().hex[:8]}:1"
    docker_client.images.get(base_image).tag(reference)
    docker_client.images.push(reference)
    host.remove_image(reference)
    cancelled = Event()
    with pytest.raises(Unavailable, match="given up"):
        host.pull_image(reference, lambda _: cancelled.set(), cancelled)
    host.remove_image(reference)


def test_what_a_killed_look_left_does_not_hold_the_image(
    host: DockerHost, base_image: str, docker_client: DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = docker_client.containers.create(base_image, command=["-"])
    image = base.commit(f"runner-test/looked-{uuid.uuid4().hex[:8]}", "1")
    base.remove()
    look = docker_client.containers.create(str(image.id), command=["-"], labels={TEMPORARY: "1"})
    with pytest.raises(Conflict):
        host.remove_image(str(image.id))
    monkeypatch.setattr(images, "LOOK_S", 0)
    host.remove_image(str(image.id))
    assert host.inspect_image(str(image.id)) is None
    assert look.id not in {one.id for one in docker_client.containers.list(all=True)}
