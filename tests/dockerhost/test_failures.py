"""Why a pull failed: each reason with its own next step."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runner.dockerhost import DockerHost
from runner.dockerhost.failures import pull_failure
from runner.errors import (
    BadInput,
    DiskFull,
    NotFound,
    RegistryError,
    RegistryUnauthorized,
    RunnerError,
    Unsupported,
)
from tests.registry.server import Registry, running
from tests.support.ports import free_port

OWN = "registry.example.org:5000/team/vllm:1"


@pytest.mark.parametrize(
    ("reference", "said", "kind", "hint"),
    [
        (
            OWN,
            'Get "https://registry.example.org:5000/v2/": dial tcp: lookup registry.example.org on '
            "127.0.0.53:53: no such host",
            RegistryError,
            "is the registry's name, registry.example.org:5000, right",
        ),
        (
            "team/vllm:1",
            'Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: '
            "Temporary failure in name resolution",
            RegistryError,
            "is the registry's name, Docker Hub, right",
        ),
        (
            OWN,
            "manifest for registry.example.org:5000/team/vllm:1 not found: manifest unknown: "
            "manifest unknown",
            NotFound,
            "check its name and tag",
        ),
        (
            OWN,
            "name unknown: repository name not known to registry",
            NotFound,
            "check its name and tag",
        ),
        (
            OWN,
            "unauthorized: authentication required",
            RegistryUnauthorized,
            "`docker login registry.example.org:5000`",
        ),
        (
            "team/vllm:1",
            "pull access denied for team/vllm, repository does not exist or may require "
            "'docker login': denied: requested access to the resource is denied",
            RegistryUnauthorized,
            "`docker login`, ",
        ),
        (
            "docker.io/team/vllm:1",
            "toomanyrequests: You have reached your pull rate limit",
            RegistryError,
            "`docker login` for a higher limit",
        ),
        (
            OWN,
            "no matching manifest for linux/arm64/v8 in the manifest list entries",
            Unsupported,
            "name one that there is for it",
        ),
        (
            "Team/vllm:1",
            "invalid reference format: repository name (Team/vllm) must be lowercase",
            BadInput,
            "REGISTRY/NAME:TAG",
        ),
        (
            OWN,
            'Get "https://registry.example.org:5000/v2/": tls: failed to verify certificate: x509: '
            "certificate signed by unknown authority",
            RegistryError,
            "tell it of the CA",
        ),
        (
            OWN,
            'Get "https://registry.example.org:5000/v2/": dial tcp 192.0.2.1:5000: i/o timeout',
            RegistryError,
            "does registry.example.org:5000 answer",
        ),
        (OWN, "write /var/lib/docker/x: no space left on device", DiskFull, "docker system df"),
        (OWN, "unexpected EOF", RegistryError, "install again"),
    ],
)
def test_each_reason_has_its_next_step(
    reference: str, said: str, kind: type[RunnerError], hint: str
) -> None:
    error = pull_failure(reference, said)
    assert type(error) is kind
    assert said in error.message
    assert hint in error.hint
    assert not {"{", "}"} & set(error.hint)


@pytest.fixture
def host() -> Iterator[DockerHost]:
    host = DockerHost()
    yield host
    host.close()


def failure(host: DockerHost, reference: str) -> RunnerError:
    with pytest.raises(RunnerError) as caught:
        host.pull_image(reference, print)
    return caught.value


@pytest.mark.docker
def test_what_the_docker_engine_says_is_understood(host: DockerHost, registry: str) -> None:
    unknown = failure(host, "nowhere.invalid/vllm:1")
    assert type(unknown) is RegistryError
    assert "is the registry's name, nowhere.invalid, right" in unknown.hint
    missing = failure(host, f"{registry}/nothing:1")
    assert type(missing) is NotFound
    assert "check its name and tag" in missing.hint
    nobody = f"localhost:{free_port()}"
    silent = failure(host, f"{nobody}/vllm:1")
    assert type(silent) is RegistryError
    assert f"does {nobody} answer" in silent.hint
    odd = failure(host, f"{registry}/Nothing:1")
    assert type(odd) is BadInput


@pytest.mark.docker
@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_a_registry_that_wants_a_login_is_named(host: DockerHost, auth: str) -> None:
    with running(Registry(auth=auth, anonymous=False)) as private:
        error = failure(host, f"{private.address}/vllm:1")
        assert type(error) is RegistryUnauthorized, error.message
        assert f"`docker login {private.address}`" in error.hint
