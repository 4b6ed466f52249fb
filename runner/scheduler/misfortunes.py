"""Which instances keep ending by themselves, so that another engine had better take over. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from runner.errors import (
    Conflict,
    EngineFailed,
    EngineStartTimeout,
    RunnerError,
    ShuttingDown,
    Unavailable,
    Unsupported,
)
from runner.scheduler.core import Key

TIMES = 3
WITHIN_S = 600.0

_KINDS = (Conflict, EngineFailed, Unavailable, Unsupported)


def is_misfortune(error: RunnerError) -> bool:
    """Whether another engine may do better. What a user has to mend is told, not worked around."""
    return isinstance(error, _KINDS) and not isinstance(error, ShuttingDown)


@dataclass(slots=True)
class Misfortunes:
    """Ends that nobody asked for and starts that failed, by key; times are seconds on a clock that
    only goes forward."""

    _ends: dict[Key, deque[float]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._ends)

    def note(self, key: Key, now: float, error: RunnerError) -> None:
        """A start that took all the time it was given is not waited for a second time."""
        times = TIMES if isinstance(error, EngineStartTimeout) else 1
        self._ends = {of: ends for of, ends in self._ends.items() if now - ends[-1] <= WITHIN_S}
        self._ends.setdefault(key, deque(maxlen=TIMES)).extend([now] * times)

    def loops(self, key: Key, now: float) -> bool:
        """Whether it ended so often of late that one more start would end the same way."""
        ends = self._ends.get(key)
        return ends is not None and len(ends) == TIMES and now - ends[0] <= WITHIN_S

    def forget(self, model: str) -> None:
        """An unload gives every engine another chance, also one that another took over from."""
        self._ends = {key: ends for key, ends in self._ends.items() if key.model != model}
