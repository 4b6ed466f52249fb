"""Attempts at entering a model whose files other models share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from runner.errors import Conflict

ATTEMPTS = 3


class Attempts:
    """For loops without an end of their own, since the last attempt returns or raises.

    In all attempts but the last, Conflict is passed over: another process has just removed a
    model that shared a file of this one, and what is missing can be brought anew. The last one
    is made within `last`, such as the store's lock, under which nobody can.
    """

    def __init__(self, last: AbstractContextManager[None] | None = None) -> None:
        self._left = ATTEMPTS
        self._last = last or nullcontext()

    @contextmanager
    def one(self) -> Iterator[None]:
        """One attempt; what comes after it is for one that failed."""
        self._left -= 1
        with suppress(Conflict) if self._left else self._last:
            yield
