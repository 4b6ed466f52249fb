"""Credentials as Docker and Podman keep them."""

from __future__ import annotations

import base64
import json
import logging
from pathlib import Path

import pytest

from runner.registry.credentials import Credentials, credentials_for
from tests.registry.conftest import Login
from tests.registry.server import IDENTITY, PASSWORD, USER

HELPER = """#!/bin/sh
read server
case "$server" in
  https://index.docker.io/v1/) echo '{"ServerURL":"x","Username":"hub","Secret":"hubpass"}' ;;
  token.example) echo '{"ServerURL":"x","Username":"<token>","Secret":"idt"}' ;;
  *) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"""


def test_nothing_is_nothing(docker_config: Path) -> None:
    assert credentials_for("r.example") is None


def test_a_login(docker_config: Path, login: Login) -> None:
    login("r.example:5000")
    assert credentials_for("r.example:5000") == Credentials(USER, PASSWORD)
    assert credentials_for("r.example") is None


def test_docker_hub_by_its_old_name(docker_config: Path, login: Login) -> None:
    login("https://index.docker.io/v1/")
    assert credentials_for("docker.io") == Credentials(USER, PASSWORD)


def test_an_identity_token(docker_config: Path, login: Login) -> None:
    login("r.example", identity=True)
    assert credentials_for("r.example") == Credentials(identity_token=IDENTITY)


def test_a_helper(docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-test"
    helper.write_text(HELPER)
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    docker_config.write_text(json.dumps({"credHelpers": {"docker.io": "test"}}))
    assert credentials_for("docker.io") == Credentials("hub", "hubpass")
    assert credentials_for("token.example") is None
    docker_config.write_text(json.dumps({"credsStore": "test"}))
    assert credentials_for("docker.io") == Credentials("hub", "hubpass")
    assert credentials_for("token.example") == Credentials(identity_token="idt")
    assert credentials_for("other.example") is None


# Podman


def write(file: Path, logins: dict[str, str]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    auths = {key: {"auth": encoded(name)} for key, name in logins.items()}
    file.write_text(json.dumps({"auths": auths}))


def encoded(name: str) -> str:
    return base64.b64encode(f"{name}:secret".encode()).decode()


def name_for(registry: str, repository: str = "") -> str:
    found = credentials_for(registry, repository)
    return found.username if found else ""


def test_podmans_most_specific_entry(docker_config: Path, tmp_path: Path) -> None:
    file = tmp_path / "XDG_RUNTIME_DIR" / "containers" / "auth.json"
    write(file, {"quay.io": "all", "quay.io/org": "org", "quay.io/org/a": "one"})
    assert name_for("quay.io") == "all"
    assert name_for("quay.io", "other/a") == "all"
    assert name_for("quay.io", "org/b") == "org"
    assert name_for("quay.io", "org/a") == "one"
    assert name_for("quay.io", "org/a/deeper") == "one"
    assert name_for("quay.io", "organisation/a") == "all"
    assert name_for("other.io", "org/a") == ""


def test_a_login_for_a_part_is_none_for_all(docker_config: Path, tmp_path: Path) -> None:
    write(tmp_path / "XDG_RUNTIME_DIR" / "containers" / "auth.json", {"quay.io/org": "org"})
    assert name_for("quay.io") == ""
    assert name_for("quay.io", "other/a") == ""


def test_where_podmans_file_lies(
    docker_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This session's, else the lasting one, but only the named one where one is named."""
    lasting = tmp_path / "XDG_CONFIG_HOME" / "containers" / "auth.json"
    session = tmp_path / "XDG_RUNTIME_DIR" / "containers" / "auth.json"
    named = tmp_path / "named.json"
    write(lasting, {"r.example": "lasting", "other.example": "other"})
    assert name_for("r.example") == "lasting"
    write(session, {"r.example": "session"})
    assert name_for("r.example") == "session"
    assert name_for("other.example") == "other"
    write(named, {"r.example": "named"})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(named))
    assert name_for("r.example") == "named"
    assert name_for("other.example") == ""
    monkeypatch.delenv("REGISTRY_AUTH_FILE")
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / ".config" / "containers" / "auth.json", {"r.example": "home"})
    assert name_for("r.example") == "home"


def test_dockers_file_comes_before_podmans(
    docker_config: Path, tmp_path: Path, login: Login
) -> None:
    write(
        tmp_path / "XDG_RUNTIME_DIR" / "containers" / "auth.json",
        {"r.example": "podman", "docker.io": "hub"},
    )
    assert name_for("r.example") == "podman"
    assert name_for("docker.io") == "hub"
    login("r.example")
    assert name_for("r.example") == USER


def test_one_broken_file_leaves_the_others(
    docker_config: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    docker_config.write_text("no JSON")
    write(tmp_path / "XDG_RUNTIME_DIR" / "containers" / "auth.json", {"r.example": "podman"})
    assert name_for("r.example") == "podman"
    assert str(docker_config) in caplog.text


def test_one_broken_entry_leaves_the_others(docker_config: Path) -> None:
    auths = {"a.example": {"auth": "?"}, "b.example": {"auth": encoded("b")}}
    docker_config.write_text(json.dumps({"auths": auths}))
    assert name_for("b.example") == "b"


@pytest.mark.parametrize("key", ["https://r.example", "http://R.example/v1/", "r.example/v2/"])
def test_old_keys(docker_config: Path, key: str) -> None:
    docker_config.write_text(json.dumps({"auths": {key: {"auth": encoded("old")}}}))
    assert name_for("r.example", "a/b") == "old"


# What is not right


@pytest.mark.parametrize(
    "config",
    [
        {"credsStore": "is-not-installed"},
        {"auths": {"r.example": {"auth": "not base64"}}},
        {"auths": {"r.example": "no object"}},
        ["no object"],
    ],
)
def test_a_broken_configuration_is_logged_and_counts_as_nothing(
    docker_config: Path, config: object, caplog: pytest.LogCaptureFixture
) -> None:
    docker_config.write_text(json.dumps(config))
    with caplog.at_level(logging.WARNING):
        assert credentials_for("r.example") is None
    assert "no credentials for r.example" in caplog.text


def test_secrets_do_not_show() -> None:
    assert "s3" not in repr(Credentials("anna", "s3cret", "s3token"))
