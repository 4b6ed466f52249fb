"""A store of its own for each test, and no credentials of the person who runs the tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.models.store import ModelStore
from runner.settings import Settings


@pytest.fixture(autouse=True)
def _no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "docker-config"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def settings() -> Settings:
    return Settings()
