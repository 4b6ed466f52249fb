"""The client where the daemon's socket can't be used."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.cli.client import Client
from runner.errors import DaemonNotRunning, Forbidden


def test_the_socket_of_another_user_is_forbidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object, address: str) -> None:  # root may use every socket
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("socket.socket.connect", refuse)
    with pytest.raises(Forbidden) as caught:
        Client(tmp_path / "runner.sock").answers()
    assert caught.value.exit_code == 6
    assert "RUNNER_HOME" in caught.value.hint


def test_no_socket_is_no_daemon(tmp_path: Path) -> None:
    with pytest.raises(DaemonNotRunning):
        Client(tmp_path / "runner.sock").get("/version")
