"""Progress of long work: bars on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from runner.cli.output import note, short_id, size
from runner.errors import Unavailable

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PLAIN_EVERY_S = 2.0


def show(lines: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Shows a job's lines as they come; the last one, which holds the result.

    Raises Unavailable where they end without one.
    """
    bars = _Bars() if sys.stderr.isatty() else _Plain()
    last: Mapping[str, Any] = {}
    with bars:
        for line in lines:
            last = line
            if line.get("type") == "progress":
                bars.tell(line)
    if last.get("type") != "success":
        raise Unavailable(
            "the daemon ended before the job was done", hint="run the same command again"
        )
    return last


class _Plain:
    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def __enter__(self) -> _Plain:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def tell(self, line: Mapping[str, Any]) -> None:
        layer = line.get("layer") or {}
        digest = layer.get("id") or ""
        if not digest:
            note(str(line.get("message", "")))
            return
        done = layer["current"] >= layer["size"]
        now = time.monotonic()
        if done or now - self._told.get(digest, 0.0) >= _PLAIN_EVERY_S:
            if self._told.get(digest) == float("inf"):
                return
            self._told[digest] = float("inf") if done else now
            note(f"{short_id(digest)}: {size(layer['current'])} of {size(layer['size'])}")


class _Bars:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._bars: Progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Bars:
        self._bars.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bars.stop()

    def tell(self, line: Mapping[str, Any]) -> None:
        layer = line.get("layer") or {}
        digest = layer.get("id") or ""
        if not digest:
            self._bars.console.print(str(line.get("message", "")), markup=False, highlight=False)
            return
        if digest not in self._tasks:
            name = short_id(digest)
            self._tasks[digest] = self._bars.add_task(name, total=layer["size"])
        self._bars.update(self._tasks[digest], completed=layer["current"])
