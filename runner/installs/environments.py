"""Engines that are installed as a Python environment of their own, made from a variant's lock file.

An environment is built under a temporary name and renamed when it is complete: what is there under
its name can be used, and what an interrupted install leaves is removed by the next one.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.engines.description import Variant
from runner.errors import (
    BadInput,
    BuildFailed,
    CorruptTransfer,
    DiskFull,
    RunnerError,
    Unavailable,
    Unsupported,
)
from runner.installs.build import Report
from runner.installs.tools import inherited, runs, spoken
from runner.settings import Settings

LOCK_NAME = "requirements.txt"
FACTS_NAME = "environment.json"
CHECK_NAME = "check.py"
_SHORT = 12
_NOTHING: Mapping[str, str] = {}
_PIP = (
    *("-I", "-m", "pip", "install", "--require-hashes", "--no-deps", "--only-binary", ":all:"),
    *("--no-user", "--no-input", "--disable-pip-version-check", "--progress-bar", "off"),
    *("--retries", "2"),
)
"""-I: neither PYTHON* variables nor a person's own site-packages count."""
_STEP = re.compile(r"^\s*(?:Collecting|Processing|Downloading|Using cached|Installing) .*")
_STEP_WIDTH = 100
_ORIGIN = " (from "
"""pip goes on with the lock's path and a line in it: of no use to who waits."""


@dataclass(frozen=True, slots=True)
class Environment:
    """An installed one: `python` runs the engine, `size` is in bytes, `lock_digest` is that of the
    lock file, which says to the last byte what is in it."""

    folder: Path
    python: Path
    size: int
    lock_digest: str


@dataclass(frozen=True, slots=True)
class Environments:
    """The environments under one folder, one for each variant and lock."""

    folder: Path
    settings: Settings

    def place(self, variant: Variant) -> Path:
        """Where the variant's environment is or will be: another lock is another folder."""
        short = lock_digest(variant).removeprefix("sha256:")[:_SHORT]
        return self.folder / variant.engine / f"{variant.name}-{variant.version}-{short}"

    def find(self, variant: Variant) -> Environment | None:
        """The variant's environment, if it is complete and its Python is still on this machine."""
        folder = self.place(variant)
        python = _python(folder)
        if not python.exists():
            return None
        try:
            facts = json.loads((folder / FACTS_NAME).read_text(encoding="utf-8"))
            return Environment(folder, python, int(facts["size"]), str(facts["lock"]))
        except (OSError, ValueError, KeyError):
            return None

    def make(
        self,
        variant: Variant,
        report: Report,
        cancelled: threading.Event,
        *,
        force: bool = False,
    ) -> Environment:
        """The variant's environment, made where it is not there yet; with `force` made anew, and
        the one that is there serves until then.

        A check.py beside engine.yaml must end well in it before it counts. Raises BadInput for a
        lock that can't be read, CorruptTransfer for a package that is not the one that was locked,
        Unsupported where none fits this machine, DiskFull, Unavailable without a network or when
        cancelled, BuildFailed else; nothing is left then.
        """
        found = self.find(variant)
        if found is not None and not force:
            return found
        folder = self.place(variant)
        try:
            _clear(folder, keep=found is not None)
            work = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        except OSError as error:
            raise _unwritable(folder.parent, error) from error
        try:
            _fill(work, variant, self.settings, _Steps(variant, report, cancelled))
            _put(work, folder)
        except OSError as error:
            raise _unwritable(folder, error) from error
        finally:
            shutil.rmtree(work, ignore_errors=True)
        made = self.find(variant)
        assert made is not None, folder
        return made

    def remove(self, python: Path) -> None:
        """Takes away the environment of this Python, at once for everybody who looks; raises
        Unavailable where that can't be done, BadInput for a Python that is of none of these."""
        folder = python.parent.parent
        if folder.parent.parent != self.folder:
            raise BadInput(f"{python} is of no environment in {self.folder}")
        aside = folder.with_name(f".{folder.name}-removed")
        try:
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            shutil.rmtree(aside)
        except FileNotFoundError:
            return
        except OSError as error:
            raise _unwritable(folder, error) from error

    def discard(self, python: Path) -> bool:
        """As `remove`, but for one that is of none of these, or that a program runs from: then it
        stays, and the answer is False."""
        folder = python.parent.parent
        if folder.parent.parent != self.folder or runs(python):
            return False
        self.remove(python)
        return True


def lock_digest(variant: Variant) -> str:
    """Raises BadInput where the variant has no lock file."""
    lock = variant.folder / LOCK_NAME
    try:
        return f"sha256:{hashlib.sha256(lock.read_bytes()).hexdigest()}"
    except OSError as error:
        raise BadInput(
            f"{variant.label} has no readable lock file: {lock}: {error.strerror}",
            hint="install runner again from its wheel or its repository",
        ) from error


@dataclass(frozen=True, slots=True)
class _Steps:
    """Runs programs that make one environment, tells their steps, and gives up when told to."""

    variant: Variant
    report: Report
    cancelled: threading.Event

    def run(self, command: Sequence[str | Path], more: Mapping[str, str] = _NOTHING) -> None:
        ended = spoken(command, inherited(more), self.cancelled, self._hear)
        if self.cancelled.is_set():
            raise Unavailable("the install was given up", hint="a second try starts anew")
        if ended.code != 0:
            raise failure(self.variant, ended.last)

    def _hear(self, lines: Iterator[str]) -> None:
        for line in lines:
            if _STEP.match(line):
                self.report(line.strip().partition(_ORIGIN)[0][:_STEP_WIDTH])


def _fill(work: Path, variant: Variant, settings: Settings, steps: _Steps) -> None:
    steps.report(f"making an environment for {variant.label} {variant.version}")
    steps.run([sys.executable, "-I", "-m", "venv", work])
    python, lock = _python(work), variant.folder / LOCK_NAME
    steps.run([python, *_PIP, "--requirement", lock], _network(settings))
    steps.report("checking it")
    steps.run([python, "-I", "-m", "pip", "--disable-pip-version-check", "check"])
    check = variant.folder.parent / CHECK_NAME
    if check.is_file():
        steps.run([python, "-I", check])
    facts = {"lock": lock_digest(variant), "size": _size(work), "version": variant.version}
    (work / FACTS_NAME).write_text(json.dumps(facts), encoding="utf-8")


def _network(settings: Settings) -> Mapping[str, str]:
    """What the settings say of the network, as pip's variables; else its own configuration and
    environment hold."""
    said = {
        "PIP_PROXY": settings.proxy.https or settings.proxy.http or "",
        "PIP_CERT": str(settings.ca_file or ""),
    }
    return {name: value for name, value in said.items() if value}


def failure(variant: Variant, log: Sequence[str]) -> RunnerError:
    """What pip's, or the probe's, last lines mean. Pure."""
    text = "\n".join(log)
    for pattern, kind, message, hint in _FAILURES:
        found = re.search(pattern, text, re.I)
        if found:
            said = found.groupdict().get("what", "")
            return kind(f"{variant.label}: {message}{said}", hint=hint, log=log)
    return BuildFailed(
        f"the environment of {variant.label} could not be made",
        hint="the last lines above say what went wrong",
        log=log,
    )


_NETWORK_HINT = (
    "check the network and the settings `proxy` and `ca_file`, or pip's own configuration "
    "where packages come from a mirror"
)
_FAILURES: tuple[tuple[str, type[RunnerError], str, str], ...] = (
    (
        r"No space left on device|\[Errno 28\]",
        DiskFull,
        "the disk is full",
        "free some space: `runner df` shows what takes it",
    ),
    (
        r"DO NOT MATCH THE HASHES",
        CorruptTransfer,
        "a package is not the one that was locked",
        "where packages come from a mirror, it serves changed ones; try another, then again",
    ),
    (
        r"(?P<what>CERTIFICATE_VERIFY_FAILED)",
        Unavailable,
        "packages can't be fetched: ",
        _NETWORK_HINT,
    ),
    (
        r"NewConnectionError|Failed to establish a new connection|ProxyError|ReadTimeout"
        r"|ConnectTimeout|Connection broken|name resolution|Network is unreachable",
        Unavailable,
        "packages can't be fetched: no connection",
        _NETWORK_HINT,
    ),
    (
        r"No matching distribution found for (?P<what>\S+)",
        Unsupported,
        "nothing fits this machine and its Python of ",
        "use another engine, or run runner with another version of Python",
    ),
    (
        r"(?P<what>Invalid requirement: .*|Hashes are required .*|"
        r".*must have their versions pinned.*|Could not open requirements file.*)",
        BadInput,
        "its lock file is broken: ",
        "install runner again from its wheel or its repository",
    ),
    (
        r"ensurepip is not available|No module named '?(venv|ensurepip)",
        Unsupported,
        "this Python can't make environments",
        "install Python's venv package, such as python3-venv",
    ),
    (
        r"(?P<what>\S+ \S+ (has requirement .*|requires .*, which is not installed.*))",
        BuildFailed,
        "its packages don't fit each other: ",
        "report it: the lock file is wrong for this machine",
    ),
)


def _clear(folder: Path, *, keep: bool) -> None:
    """What an interrupted install or removal left can't be used, nor can what is there itself
    unless it is to be kept."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for left in (*([] if keep else [folder]), *folder.parent.glob(f".{folder.name}-*")):
        if left.exists():
            shutil.rmtree(left)


def _put(work: Path, folder: Path) -> None:
    """Takes the place of what is there, which has served until now."""
    aside = folder.with_name(f".{folder.name}-replaced")
    if folder.exists():
        folder.rename(aside)
    try:
        work.rename(folder)
    except OSError:
        if aside.exists():
            aside.rename(folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _unwritable(folder: Path, error: OSError) -> RunnerError:
    if "space" in (error.strerror or ""):
        return DiskFull(f"the disk is full: {folder}", hint="free some space, see `runner df`")
    return Unavailable(
        f"can't write {folder}: {error.strerror}",
        hint="set RUNNER_HOME to a folder that you may write",
    )


def _python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _size(folder: Path) -> int:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files)
