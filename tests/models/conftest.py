"""A store of its own for each test, and no credentials of the person who runs the tests."""

from __future__ import annotations

import pytest

from runner.errors import ShuttingDown
from runner.registry.http import Http
from tests.models.pulling import model, pulling, reference, server, small_parts
from tests.support.models import no_credentials, settings, store

__all__ = [
    "model",
    "no_credentials",
    "pulling",
    "reference",
    "server",
    "settings",
    "small_parts",
    "store",
]


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The pauses that were asked for, which take no time here."""
    asked: list[float | None] = []

    def pause(self: Http, attempt: int, delay: float | None = None) -> None:
        asked.append(delay)
        if self._cancelled.is_set():
            raise ShuttingDown("the transfer was cancelled")

    monkeypatch.setattr(Http, "pause", pause)
    return asked
