"""Credentials as Docker keeps them."""

from __future__ import annotations

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
    docker_config.write_text(json.dumps({"credsStore": "test"}))
    assert credentials_for("docker.io") == Credentials("hub", "hubpass")
    assert credentials_for("token.example") == Credentials(identity_token="idt")
    assert credentials_for("other.example") is None


@pytest.mark.parametrize(
    "config",
    [
        {"credsStore": "is-not-installed"},
        {"auths": {"r.example": {"auth": "not base64"}}},
        {"auths": {"r.example": "no object"}},
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
