"""The command line in this process, with the real control plane behind it and no daemon."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from runner.cli.app import program
from runner.engines.registered import Engines
from runner.hardware.host import HostFacts
from tests.api.control import Control, InProcess, control


@dataclass(frozen=True)
class Terminal:
    """Runs commands; raises what they raise."""

    api: Control
    capture: pytest.CaptureFixture[str]

    def run(self, *arguments: str) -> str:
        """What is printed on standard output."""
        self.capture.readouterr()
        program(arguments)(list(arguments), standalone_mode=False)
        return self.capture.readouterr().out

    def errors(self, *arguments: str) -> str:
        """What is printed beside it."""
        self.capture.readouterr()
        program(arguments)(list(arguments), standalone_mode=False)
        return self.capture.readouterr().err


@contextmanager
def terminal(
    host: HostFacts,
    home: Path,
    capture: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    engines: Engines | None = None,
) -> Iterator[Terminal]:
    """Of the RUNNER_HOME that the `home` fixture made."""
    assert home.is_dir()
    with control(host, engines) as api:
        monkeypatch.setattr("runner.cli.background.running_client", lambda: InProcess(api))
        yield Terminal(api, capture)
