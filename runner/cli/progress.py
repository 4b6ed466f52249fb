"""Progress of long work: bars on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from runner.cli.output import note
from runner.cli.tally import Tally, amount, layer_name
from runner.errors import Unavailable

if TYPE_CHECKING:
    from rich.progress import TaskID

    from runner.models.progress import Progress

_PLAIN_EVERY_S = 2.0
_TOTAL_EVERY_S = 0.5
_BARS = 8
"""Layers that are shown at once; the others count in the total."""
_NARROW_BAR, _WIDE_BAR, _BESIDES_BAR = 10, 40, 70
"""Columns, the last one those of a layer's name and the longest words."""

Line = Mapping[str, Any]
"""One progress line, as the daemon sends it and `ProgressEvent.document` writes it."""

Tell = Callable[[Line], None]


class _Renderer(Protocol):
    def tell(self, line: Line) -> None: ...

    def close(self) -> None: ...


def show(lines: Iterable[Line]) -> Line:
    """Shows a job's lines as they come; the last one, which holds the result.

    Raises Unavailable where they end without one.
    """
    last: Line = {}
    with shown() as tell:
        for line in lines:
            last = line
            tell(line)
    if last.get("type") != "success":
        raise Unavailable(
            "the daemon ended before the job was done", hint="run the same command again"
        )
    return last


@contextmanager
def shown() -> Iterator[Tell]:
    """Takes progress lines until the block ends, and shows them."""
    renderer = _Bars() if sys.stderr.isatty() else Plain()
    try:
        yield lambda line: renderer.tell(line) if line.get("type") == "progress" else None
    finally:
        renderer.close()


@contextmanager
def shown_events() -> Iterator[Progress]:
    """The same for work that this process does itself."""
    from runner.models.progress import summed

    with shown() as tell:
        yield summed(lambda event: tell(event.document()))


class Plain:
    """Every two seconds: each layer that moves, then the whole."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._tally = Tally(clock)
        self._told_at = clock()

    def tell(self, line: Line) -> None:
        if not self._tally.take(line):
            note(str(line.get("message", "")))
        elif self._clock() - self._told_at >= _PLAIN_EVERY_S:
            self._told_at = self._clock()
            for layer in self._tally.running():
                note(f"{layer_name(layer.name)}: {amount(layer.current, layer.size)}")
            note(f"total: {self._tally.words()}")

    def close(self) -> None:
        """What is over is told by the command itself."""


class _Bars:
    """A bar for each layer that moves, and one for the whole; gone when it is over."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(stderr=True)
        # Narrower than the terminal: what it echoes for Ctrl-C must not begin a line.
        bar = BarColumn(max(_NARROW_BAR, min(_WIDE_BAR, console.width - _BESIDES_BAR)))
        self._bars = Progress(
            TextColumn("{task.description}", markup=False),
            bar,
            TextColumn("{task.fields[words]}", markup=False),
            console=console,
            transient=True,
        )
        self._bars.start()
        self._tally = Tally(time.monotonic)
        self._tasks: dict[str, TaskID] = {}
        self._whole: TaskID | None = None
        self._told_at = 0.0

    def tell(self, line: Line) -> None:
        if not self._tally.take(line):
            self._bars.console.print(str(line.get("message", "")), markup=False, highlight=False)
            return
        self._show_whole()
        self._show_layers()

    def close(self) -> None:
        self._bars.stop()

    def _show_layers(self) -> None:
        running = {layer.name: layer for layer in self._tally.running()[:_BARS]}
        for name in [name for name in self._tasks if name not in running]:
            self._bars.remove_task(self._tasks.pop(name))
        for name, layer in running.items():
            if name not in self._tasks:
                self._tasks[name] = self._bars.add_task(layer_name(name), words="")
            self._bars.update(
                self._tasks[name],
                total=layer.size,
                completed=layer.current,
                words=amount(layer.current, layer.size),
            )

    def _show_whole(self) -> None:
        if self._whole is None:
            self._whole = self._bars.add_task("total", words="")
        tally, now = self._tally, time.monotonic()
        self._bars.update(self._whole, total=tally.total, completed=tally.done)
        if now - self._told_at >= _TOTAL_EVERY_S or tally.done >= tally.total:
            self._told_at = now
            self._bars.update(self._whole, words=tally.words())
