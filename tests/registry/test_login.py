"""Logins: real registries, Docker's file, and a helper program on the path."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import BadInput, BadReference, RegistryError, RegistryUnauthorized
from runner.registry.client import RegistryClient
from runner.registry.credentials import Credentials, credentials_for
from runner.registry.login import lets_in, login, logout
from runner.registry.reference import Reference
from runner.settings import Settings
from tests.registry.distribution import distribution
from tests.registry.server import PASSWORD, USER, Registry

ACCOUNT = "anna:$2y$04$HErQ7n6BI09NY8wnnt6ly.o90KGpx5BS3Rdxc8N/yOghtEFKyp8ce\n"
"""USER and PASSWORD as htpasswd keeps them."""

HELPER = """#!/usr/bin/env python3
import json, pathlib, sys
file = pathlib.Path(__file__).with_suffix(".json")
kept = json.loads(file.read_text()) if file.exists() else {}
verb, text = sys.argv[1], sys.stdin.read()
if verb == "store":
    login = json.loads(text)
    kept[login["ServerURL"]] = login
elif text.strip() not in kept:
    print("credentials not found in native keychain")
    sys.exit(1)
elif verb == "get":
    print(json.dumps(kept[text.strip()]))
elif verb == "erase":
    del kept[text.strip()]
file.write_text(json.dumps(kept))
"""


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the helper `test` keeps; the file appears with the first use."""
    program = tmp_path / "docker-credential-test"
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return program.with_suffix(".json")


@pytest.fixture(params=["basic", "bearer"])
def guarded(server: Registry, request: pytest.FixtureRequest) -> Registry:
    server.auth, server.anonymous = request.param, False
    return server


def entry(name: str = USER, password: str = PASSWORD) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{name}:{password}".encode()).decode()}


def test_a_login_is_kept_as_docker_keeps_it(
    guarded: Registry, settings: Settings, docker_config: Path
) -> None:
    login(guarded.address, USER, PASSWORD, settings)
    assert json.loads(docker_config.read_text()) == {"auths": {guarded.address: entry()}}
    assert stat.S_IMODE(docker_config.stat().st_mode) == 0o600
    assert [path.name for path in docker_config.parent.iterdir()] == ["config.json"]
    assert credentials_for(guarded.address) == Credentials(USER, PASSWORD)
    with RegistryClient(guarded.address, settings) as client:
        client.put_manifest(Reference(guarded.address, "a/b", "1"), b"{}", "application/x")


def test_a_wrong_password_is_not_kept(
    guarded: Registry, settings: Settings, docker_config: Path
) -> None:
    with pytest.raises(RegistryUnauthorized, match=f"refuses the login of {USER}") as caught:
        login(guarded.address, USER, "wrong", settings)
    assert caught.value.hint
    assert not docker_config.exists()


def test_the_password_given_counts_not_the_one_kept(
    guarded: Registry, settings: Settings, docker_config: Path
) -> None:
    login(guarded.address, USER, PASSWORD, settings)
    with pytest.raises(RegistryUnauthorized):
        login(guarded.address, USER, "wrong", settings)
    assert credentials_for(guarded.address) == Credentials(USER, PASSWORD)


def test_a_registry_that_is_not_there(settings: Settings, docker_config: Path) -> None:
    with pytest.raises(RegistryError, match="can't reach"):
        login("localhost:1", USER, PASSWORD, settings)
    assert not docker_config.exists()


def test_what_else_the_file_holds_stays(
    server: Registry, settings: Settings, docker_config: Path
) -> None:
    others = {"other.example": entry("other"), f"{server.address}/org": entry("org")}
    old = {f"https://{server.address}/v1/": entry("old")}
    document = {"psFormat": "table", "auths": {**old, **others}, "HttpHeaders": {"X": "ü"}}
    docker_config.write_text(json.dumps(document))
    login(server.address, USER, PASSWORD, settings)
    kept = json.loads(docker_config.read_text())
    assert kept == {**document, "auths": {**others, server.address: entry()}}
    assert list(kept) == list(document)
    assert logout(server.address)
    assert json.loads(docker_config.read_text()) == {**document, "auths": others}
    assert not logout(server.address)


def test_a_registry_without_accounts_lets_everybody_in(
    server: Registry, settings: Settings
) -> None:
    assert lets_in(server.address, settings) is True


def test_a_registry_with_accounts_lets_in_until_the_logout(
    guarded: Registry, settings: Settings, docker_config: Path
) -> None:
    assert lets_in(guarded.address, settings) is False
    login(guarded.address, USER, PASSWORD, settings)
    assert lets_in(guarded.address, settings) is True
    logout(guarded.address)
    assert lets_in(guarded.address, settings) is False


def test_a_registry_that_is_not_there_says_nothing(settings: Settings, docker_config: Path) -> None:
    assert lets_in("localhost:1", settings) is None


def test_a_link_to_the_file_stays_one(
    server: Registry, settings: Settings, docker_config: Path, tmp_path: Path
) -> None:
    real = tmp_path / "real.json"
    real.write_text("{}")
    docker_config.symlink_to(real)
    login(server.address, USER, PASSWORD, settings)
    assert docker_config.is_symlink()
    assert server.address in json.loads(real.read_text())["auths"]


@pytest.mark.parametrize("content", ["no JSON", "[]"])
def test_a_file_that_is_not_dockers_is_left_alone(
    server: Registry, settings: Settings, docker_config: Path, content: str
) -> None:
    docker_config.write_text(content)
    for call in (
        lambda: login(server.address, USER, PASSWORD, settings),
        lambda: logout(server.address),
    ):
        with pytest.raises(BadInput, match="can't read"):
            call()
    assert docker_config.read_text() == content
    assert server.requests == []


def test_a_folder_that_can_not_be_written(
    server: Registry, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "file"))
    with pytest.raises(BadInput, match=r"can't (read|write)") as caught:
        login(server.address, USER, PASSWORD, settings)
    assert caught.value.hint


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_a_helper_keeps_what_the_file_would(
    guarded: Registry, settings: Settings, docker_config: Path, helper: Path, key: str
) -> None:
    named: object = "test" if key == "credsStore" else {guarded.address: "test"}
    docker_config.write_text(json.dumps({key: named}))
    login(guarded.address, USER, PASSWORD, settings)
    assert json.loads(helper.read_text())[guarded.address]["Secret"] == PASSWORD
    assert json.loads(docker_config.read_text()) == {key: named, "auths": {guarded.address: {}}}
    assert credentials_for(guarded.address) == Credentials(USER, PASSWORD)
    assert logout(guarded.address)
    assert json.loads(helper.read_text()) == {}
    assert json.loads(docker_config.read_text()) == {key: named, "auths": {}}
    assert credentials_for(guarded.address) is None
    assert not logout(guarded.address)


def test_a_helper_that_is_not_there(
    server: Registry, settings: Settings, docker_config: Path
) -> None:
    docker_config.write_text(json.dumps({"credsStore": "is-not-installed"}))
    with pytest.raises(RegistryError, match="docker-credential-is-not-installed failed"):
        login(server.address, USER, PASSWORD, settings)
    with pytest.raises(RegistryError, match="docker-credential-is-not-installed failed"):
        logout(server.address)
    assert json.loads(docker_config.read_text()) == {"credsStore": "is-not-installed"}


@pytest.mark.parametrize("name", ["docker.io", "https://index.docker.io/v1/", "Docker.IO"])
def test_docker_hub_is_kept_by_its_old_name(docker_config: Path, name: str) -> None:
    key = "https://index.docker.io/v1/"
    document = {"auths": {key: entry("hub")}}
    docker_config.write_text(json.dumps(document))
    assert credentials_for("docker.io") == Credentials("hub", PASSWORD)
    assert logout(name)
    assert json.loads(docker_config.read_text()) == {"auths": {}}


@pytest.mark.parametrize("name", ["", "a b", "hf.co", "https://modelscope.cn/x", "host:port"])
def test_names_that_are_no_registrys(settings: Settings, docker_config: Path, name: str) -> None:
    with pytest.raises(BadReference):
        login(name, USER, PASSWORD, settings)
    with pytest.raises(BadReference):
        logout(name)


@pytest.mark.parametrize(("name", "secret"), [("", "x"), ("x", ""), ("a:b", "x")])
def test_logins_that_are_none(
    server: Registry, settings: Settings, docker_config: Path, name: str, secret: str
) -> None:
    with pytest.raises(BadInput):
        login(server.address, name, secret, settings)
    assert server.requests == []


# CNCF Distribution with accounts


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with distribution(tmp_path_factory.mktemp("accounts"), ACCOUNT) as address:
        yield address


def test_distribution_lets_in_whom_it_knows(
    real: str, settings: Settings, docker_config: Path, tmp_path: Path
) -> None:
    reference = Reference(real, "a/b", "1")
    with RegistryClient(real, settings) as client, pytest.raises(RegistryUnauthorized):
        client.get_manifest(reference)
    for name, secret in ((USER, "wrong"), ("nobody", PASSWORD)):
        with pytest.raises(RegistryUnauthorized):
            login(real, name, secret, settings)
    assert not docker_config.exists()
    login(real, USER, PASSWORD, settings)
    with RegistryClient(real, settings) as client:
        assert client.head_manifest(reference) is None
        assert list(client.catalog()) == []
    assert logout(real)
    with RegistryClient(real, settings) as client, pytest.raises(RegistryUnauthorized):
        client.get_manifest(reference)
