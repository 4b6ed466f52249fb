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
from runner.scheduler.succession import Trouble, Why, one_line

TIMES = 3
WITHIN_S = 600.0

_KINDS = (Conflict, EngineFailed, Unavailable, Unsupported)


def is_misfortune(error: RunnerError) -> bool:
    """Whether another engine may do better. What a user has to mend is told, not worked around."""
    return isinstance(error, _KINDS) and not isinstance(error, ShuttingDown)


@dataclass(slots=True)
class _Ends:
    """The last ones, and how the very last one came about."""

    last: RunnerError
    times: deque[float] = field(default_factory=lambda: deque(maxlen=TIMES))


@dataclass(slots=True)
class Misfortunes:
    """Ends that nobody asked for and starts that failed, by key; times are seconds on a clock that
    only goes forward."""

    _ends: dict[Key, _Ends] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self._ends)

    def note(self, key: Key, now: float, error: RunnerError) -> None:
        """A start that took all the time it was given is not waited for a second time."""
        times = TIMES if isinstance(error, EngineStartTimeout) else 1
        self._ends = {
            of: ends for of, ends in self._ends.items() if now - ends.times[-1] <= WITHIN_S
        }
        ends = self._ends.setdefault(key, _Ends(error))
        ends.last = error
        ends.times.extend([now] * times)

    def trouble(self, key: Key, now: float) -> Trouble | None:
        """Where it ended so often of late that one more start would end the same way."""
        ends = self._ends.get(key)
        if ends is None or len(ends.times) < TIMES or now - ends.times[0] > WITHIN_S:
            return None
        slow = isinstance(ends.last, EngineStartTimeout)
        why = Why.DID_NOT_START if slow else Why.KEEPS_FAILING
        return Trouble(why, one_line(ends.last.message), ends.times[0] + WITHIN_S)

    def forget(self, model: str) -> bool:
        """An unload gives every engine another chance, also one that another took over from;
        whether there was anything to forget."""
        kept = {key: ends for key, ends in self._ends.items() if key.model != model}
        known, self._ends = len(self._ends), kept
        return len(kept) < known
