"""Fixtures of all tests that have models in a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.settings import Settings
from runner.store.store import ModelStore


@pytest.fixture(autouse=True)
def no_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "docker-config"
    folder.mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(folder))


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "models")


@pytest.fixture
def settings() -> Settings:
    return Settings()
