"""Peers that are missing: skipped by a person, never on CI."""

from __future__ import annotations

import pytest

from tests.support.tools import require_library, tool


def test_what_is_missing_fails_on_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    for required in (tool, require_library):
        with pytest.raises(pytest.fail.Exception, match="no_such_peer is missing"):
            required("no_such_peer")
    require_library("pytest")


def test_what_is_missing_is_skipped_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    for required in (tool, require_library):
        with pytest.raises(pytest.skip.Exception, match="no_such_peer is missing"):
            required("no_such_peer")
