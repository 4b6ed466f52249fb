"""Forks processes that work on a model store, and kills them at a moment of one's choice.

A program of its own with one thread, so that forking is safe, and with everything imported, so
that it is quick: `python -m tests.store.nursery`. It reads orders, one JSON line each, and
answers each with one line. What its children are doing it hears from an audit hook: Python itself
tells of every file that is opened, renamed, linked or removed, and of every request that is sent.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import requests  # noqa: F401 - and what comes with it, once instead of in every child

from runner.models import transfer
from runner.models.package import package
from runner.models.package_order import PackageOrder
from runner.registry import client, http, session  # noqa: F401 - the same
from runner.settings import Settings
from runner.store import download
from runner.store.archive import import_models
from runner.store.downloads import Downloads
from runner.store.store import ModelStore

PATIENCE_S = 60.0
PART_SIZE = 512 * 1024
FOLDERS = {
    "blobs": "blob",
    "partial": "download",
    "tmp": "copy",
    "manifests": "manifest-write",
    "models.json": "index",
    "models.json.previous": "index",
    "links.json": "index",
    "bundles": "bundle",
    "lock": "lock",
}
"""What happens to a store, by the first part of the path that it happens to."""

CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree"}


@dataclass(frozen=True)
class Order:
    """What a child does in the store at `root`: `before` undisturbed, then `action`.

    It is killed `delay` seconds after the announcement number `ordinal` (from 0) whose step is
    `step`, or at that very moment where `delay` is negative; never without a step.
    """

    root: str
    action: Sequence[str]
    before: Sequence[Sequence[str]] = ()
    configs: Sequence[str] = ()
    step: str = ""
    ordinal: int = 0
    delay: float = -1.0


@dataclass(frozen=True)
class Outcome:
    """How a child ended: `step` is the last one it announced, empty before its action began.

    `hung` says that it did not end by itself, and was to; `seconds` is how long it went on after
    its first announcement.
    """

    killed: bool
    hung: bool = False
    step: str = ""
    error: str = ""
    steps: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Nursery:
    """The program, seen from a test."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def run(self, order: Order) -> Outcome:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(asdict(order)) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the nursery has died"
        return Outcome(**json.loads(line))


@contextmanager
def nursery() -> Iterator[Nursery]:
    command = [sys.executable, "-m", "tests.store.nursery"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        try:
            yield Nursery(process)
        finally:
            process.stdin.close()


# What children do


def _pull(store: ModelStore, name: str) -> None:
    transfer.pull(store, store.reference(name), Settings())


def _have(store: ModelStore, name: str) -> None:
    if not _is_tag(store, name):
        _pull(store, name)


def _lack(store: ModelStore, name: str) -> None:
    if _is_tag(store, name):
        store.remove(name)


def _tag(store: ModelStore, name: str, other: str) -> None:
    store.tag(name, store.reference(other))


def _bundle(store: ModelStore, name: str) -> None:
    store.bundle(store.get(name).id)


def _orphan(store: ModelStore) -> None:
    """What a killed program leaves: a blob and a manifest that no model uses."""
    store.blobs.add_bytes(secrets.token_bytes(100_000))
    store.manifests.write(secrets.token_bytes(100))


def _prune(store: ModelStore) -> None:
    store.prune(everything=True)


def _package(store: ModelStore, path: str, name: str, *, link: bool = False) -> None:
    package(store, PackageOrder(store.reference(name), gguf=Path(path), link=link))


def _link(store: ModelStore, path: str, name: str) -> None:
    _package(store, path, name, link=True)


def _import(store: ModelStore, path: str) -> None:
    import_models(store, Path(path))


def _is_tag(store: ModelStore, name: str) -> bool:
    long = store.reference(name).long
    return any(long in model.tags for model in store.list())


Action = Callable[..., object]
ACTIONS: dict[str, Action] = {
    "pull": _pull,
    "have": _have,
    "lack": _lack,
    "tag": _tag,
    "remove": ModelStore.remove,
    "bundle": _bundle,
    "orphan": _orphan,
    "prune": _prune,
    "package": _package,
    "link": _link,
    "import": _import,
}


# How they tell of it


class Announcer:
    """Tells the parent of each step; stops for ever at the one where it is to be killed."""

    def __init__(self, order: Order, pipe: int) -> None:
        self._root = f"{order.root}/"
        self._configs = tuple(order.configs)
        self._pipe = pipe
        self._stop = order.step if order.delay < 0 else ""
        self._left = order.ordinal
        self.armed = False

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.armed and (step := self._step(event, arguments)):
            self.announce(step)

    def announce(self, step: str) -> None:
        os.write(self._pipe, f"{step}\n".encode())
        if step == self._stop:
            self._left -= 1
            if self._left < 0:
                time.sleep(2 * PATIENCE_S)

    def _step(self, event: str, arguments: tuple[Any, ...]) -> str:
        if event == "http.client.send":
            return self._request(arguments[1])
        if event not in CHANGES and not (event == "open" and _is_written(arguments)):
            return ""
        target = os.fsdecode(arguments[1 if event in {"os.rename", "os.link"} else 0])
        if not target.startswith(self._root):
            return ""
        return FOLDERS.get(target.removeprefix(self._root).partition("/")[0], "")

    def _request(self, content: object) -> str:
        line = bytes(content[:200]) if isinstance(content, bytes) else b""
        if b"/manifests/" in line:
            return "manifest"
        if any(digest.encode() in line for digest in self._configs):
            return "config"
        return "download" if b"/blobs/" in line else ""


def _is_written(arguments: tuple[Any, ...]) -> bool:
    path, _, flags = arguments
    return isinstance(path, str | bytes) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def _live(order: Order, pipe: int) -> None:
    """A child's whole life."""
    store = ModelStore(Path(order.root))
    for name, *arguments in order.before:
        ACTIONS[name](store, *arguments)
    announcer = Announcer(order, pipe)
    sys.addaudithook(announcer.hear)
    verify = Downloads._finish

    def announced(self: Downloads, download: download.Download) -> None:
        announcer.announce("verify")
        verify(self, download)

    Downloads._finish = announced  # type: ignore[method-assign]
    announcer.armed = True
    name, *arguments = order.action
    ACTIONS[name](store, *arguments)


# The parent's side


def _raise_child(order: Order) -> Outcome:
    read, write = os.pipe()
    errors, failing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read)
            _live(order, write)
            status = 0
        except BaseException:
            os.write(failing, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(status)
    os.close(write)
    os.close(failing)
    with os.fdopen(read, "rb", 0) as steps, os.fdopen(errors, "rb", 0) as words:
        seen, hung, began = _watch(order, child, steps.fileno())
        _, status = os.waitpid(child, 0)
        seen += steps.readall()
        error = words.readall().decode()
    told = seen.decode().split()
    killed = os.WIFSIGNALED(status)
    seconds = time.monotonic() - began
    return Outcome(killed, hung, told[-1] if told else "", error, told, seconds)


def _watch(order: Order, child: int, steps: int) -> tuple[bytes, bool, float]:
    """What it announced until it ended or was killed, whether that was for its hanging, and when
    it began."""
    seen, due = b"", 0.0
    began = time.monotonic()
    while True:
        wait = (due or began + PATIENCE_S) - time.monotonic()
        ready, _, _ = select.select([steps], [], [], max(0.0, wait)) if wait > 0 else ([], 0, 0)
        if not ready:
            os.kill(child, signal.SIGKILL)
            return seen, not due, began
        content = os.read(steps, 65536)
        if not content:
            return seen, False, began
        began = began if seen else time.monotonic()
        seen += content
        if order.step and not due and seen.decode().split().count(order.step) > order.ordinal:
            due = time.monotonic() + max(0.0, order.delay)


def main() -> None:
    download.PART_SIZE = PART_SIZE
    download.NOTED_EVERY = PART_SIZE // 4
    for line in sys.stdin:
        fields = json.loads(line)
        print(json.dumps(asdict(_raise_child(Order(**fields)))), flush=True)


if __name__ == "__main__":
    main()
