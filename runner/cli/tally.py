"""What the lines of a long job add up to: layers, the whole, the speed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from runner.cli.output import short_id, size
from runner.registry.digest import is_digest

_NAME = 24
_MINUTE = 60
_WINDOW_S = 8.0
"""The speed is the average over this long."""


@dataclass(frozen=True, slots=True)
class Moving:
    """A layer that is not whole yet; sizes in bytes."""

    name: str
    current: int
    size: int


class Tally:
    """Takes progress lines, and can say at any time how far the work is."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.total = 0
        self.done = 0
        self._moved = 0
        self._have: dict[str, int] = {}
        self._running: dict[str, Moving] = {}
        self._clock = clock
        self._looks = deque([(clock(), 0)])

    def take(self, line: Mapping[str, Any]) -> bool:
        """False for a line that tells of no layer."""
        told = line.get("layer") or {}
        name = told.get("id")
        if not name:
            return False
        layer = Moving(name, int(told["current"]), int(told["size"]))
        # What a layer has at its first line came before now: no bytes moved for it.
        self._moved += layer.current - self._have.get(name, layer.current)
        self.done += layer.current - self._have.get(name, 0)
        self.total = max(int(line.get("total") or 0), self.done)
        self._have[name] = layer.current
        if layer.current < layer.size:
            self._running[name] = layer
        else:
            self._running.pop(name, None)
        return True

    def running(self) -> list[Moving]:
        """In the order in which they began; one that is the whole says no more than the whole."""
        return [layer for layer in self._running.values() if layer.size != self.total]

    def words(self) -> str:
        """Such as `1.2 GB of 2.1 GB, 55.1 MB/s, 17 s left`."""
        speed = self._speed_now()
        words = [amount(self.done, self.total)]
        if speed >= 1:
            words.append(f"{size(speed)}/s")
            words.append(f"{_time((self.total - self.done) / speed)} left")
        return ", ".join(words)

    def _speed_now(self) -> float:
        now = self._clock()
        self._looks.append((now, self._moved))
        while self._looks[1][0] <= now - _WINDOW_S:
            self._looks.popleft()
        since, moved = self._looks[0]
        return max(0, self._moved - moved) / (now - since) if now > since else 0


def amount(current: int, whole: int) -> str:
    """`1.2 MB of 2.6 MB`."""
    return f"{size(current)} of {size(whole)}"


def layer_name(name: str) -> str:
    """A layer's digest in short, or the end of its file's path."""
    if is_digest(name):
        return short_id(name)
    return name if len(name) <= _NAME else f"…{name[1 - _NAME :]}"


def _time(seconds: float) -> str:
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    if minutes < _MINUTE:
        return f"{minutes} min {rest} s"
    return f"{minutes // _MINUTE} h {minutes % _MINUTE} min"
