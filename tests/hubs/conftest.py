"""A stand-in hub for each test, and no token of the person who runs the tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.settings import Settings
from tests.hubs.server import Hub, running


@pytest.fixture(autouse=True)
def no_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "MODELSCOPE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf-home"))


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running(Hub()) as serving:
        yield serving


@pytest.fixture
def settings(hub: Hub) -> Settings:
    return Settings(hub_endpoint=hub.endpoint, modelscope_endpoint=hub.endpoint)
