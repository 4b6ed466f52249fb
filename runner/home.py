"""RUNNER_HOME: the one folder that holds all state, and what lies where in it."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from runner.errors import Unavailable

MAX_SOCKET_PATH = 107 if sys.platform.startswith("linux") else 103
"""Bytes that fit into `sockaddr_un.sun_path` besides its closing NUL."""

_LONGEST_SOCKET = len("/i/0123456789ab/engine.sock")
"""What an instance's socket adds to the run folder's own path."""


@dataclass(frozen=True, slots=True)
class Home:
    """Paths under RUNNER_HOME. Nothing is made before `prepare`."""

    root: Path

    @property
    def identity(self) -> str:
        """Twelve hex digits that tell this home's containers from another's."""
        return hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]

    @property
    def config_file(self) -> Path:
        return self.root / "config.yaml"

    @property
    def store(self) -> Path:
        return self.root / "models"

    @property
    def state_file(self) -> Path:
        return self.root / "state.sqlite"

    @property
    def daemon_lock(self) -> Path:
        return self.root / "daemon.lock"

    @property
    def log_file(self) -> Path:
        return self.root / "daemon.log"

    @property
    def custom_engines(self) -> Path:
        """The user's own engines: a folder each, with an engine.yaml."""
        return self.root / "engines.d"

    @property
    def environments(self) -> Path:
        """Python environments of engines that run as native processes."""
        return self.root / "engines"

    @property
    def run(self) -> Path:
        """Sockets; outside the home where its path is too long for a socket's address."""
        inside = self.root / "run"
        if len(os.fsencode(inside)) + _LONGEST_SOCKET <= MAX_SOCKET_PATH:
            return inside
        return Path(tempfile.gettempdir()) / f"runner-{os.getuid()}-{self.identity}"

    @property
    def socket(self) -> Path:
        return self.run / "runner.sock"

    def instance(self, name: str) -> Path:
        """The folder of one instance's socket and logs."""
        return self.run / "i" / name

    def left_instances(self) -> tuple[str, ...]:
        """Instances whose folders are there: running ones, and what a killed daemon left."""
        try:
            return tuple(sorted(entry.name for entry in (self.run / "i").iterdir()))
        except FileNotFoundError:
            return ()

    def cache(self, variant_digest: str, model_digest: str) -> Path:
        """Where an engine keeps what it compiles: one folder per variant's digest and model."""
        return self.root / "cache" / _short(variant_digest) / _short(model_digest)

    def prepare(self) -> None:
        """Makes the folders, for their owner alone; raises Unavailable where that fails."""
        try:
            for folder in (self.root, self.run, self.run / "i"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._refuse_foreign(self.run)
        except OSError as error:
            raise Unavailable(
                f"can't use {self.root}: {error.strerror}",
                hint="set RUNNER_HOME to a folder that you may write",
            ) from error

    @staticmethod
    def _refuse_foreign(folder: Path) -> None:
        """A run folder under the shared temporary folder may have been made by somebody else."""
        if folder.stat().st_uid != os.getuid():
            raise PermissionError(1, f"{folder} belongs to another user")


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:16]


def home_from(environment: Mapping[str, str]) -> Home:
    """RUNNER_HOME, else the XDG data folder's `runner`."""
    named = environment.get("RUNNER_HOME", "")
    if named:
        return Home(Path(named).expanduser().resolve())
    data = environment.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Home((Path(data) / "runner").resolve())
