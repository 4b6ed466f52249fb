"""A misbehaving registry for each test, and no credentials of the person who runs the tests."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.settings import Settings
from tests.registry.server import IDENTITY, PASSWORD, USER, Registry, running

Login = Callable[..., None]


@pytest.fixture
def docker_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "docker-config"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return folder / "config.json"


@pytest.fixture
def server(docker_config: Path) -> Iterator[Registry]:
    with running(Registry()) as registry:
        yield registry


@pytest.fixture
def login(docker_config: Path) -> Login:
    """Writes what `docker login` writes for a registry."""

    def write(address: str, *, password: str = PASSWORD, identity: bool = False) -> None:
        pair = base64.b64encode(f"{USER}:{password}".encode()).decode()
        entry = {"auth": pair, "identitytoken": IDENTITY} if identity else {"auth": pair}
        docker_config.write_text(json.dumps({"auths": {address: entry}}))

    return write


@pytest.fixture
def settings() -> Settings:
    return Settings()
