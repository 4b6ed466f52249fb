"""How fast the test registry sends and takes bytes, over all its connections."""

from __future__ import annotations

import threading
import time


class Throttle:
    """`rate` is bytes a second; 0 is as fast as it goes."""

    def __init__(self, rate: int = 0) -> None:
        self._rate = rate
        self._due = 0.0
        self._lock = threading.Lock()
        self._lifted = threading.Event()

    def passed(self, size: int) -> None:
        """Waits until so many bytes may have gone."""
        if not self._rate or self._lifted.is_set():
            return
        with self._lock:
            now = time.monotonic()
            self._due = max(now, self._due) + size / self._rate
            wait = self._due - now
        self._lifted.wait(wait)

    def lift(self) -> None:
        """From now on without limits, for those that wait too."""
        self._lifted.set()
