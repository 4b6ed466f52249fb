"""Calls into code that others wrote: in a thread of their own, with a deadline.

Whatever such code does, hangs, raises or tries to end the process with `sys.exit`, its caller
hears of it as one kind of failure.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from textwrap import shorten
from typing import Generic, TypeVar, cast

from runner.errors import RunnerError

log = logging.getLogger(__name__)

SHOWN = 500
"""Characters of what it says of itself."""

Made = TypeVar("Made")


class Failed(Exception):
    """What went wrong, as a clause for the end of a sentence."""


class Late(Failed):
    """It did not return in time."""


class Call(Generic[Made]):
    """A call that has begun. Where its caller gives up and it returns all the same, `late` is
    called with what it made."""

    def __init__(self, work: Callable[[], Made], late: Callable[[Made], object] | None = None):
        self._work = work
        self._late = late
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._made: list[Made] = []
        self._error: Failed | RunnerError | None = None
        self._given_up = False
        threading.Thread(target=self._run, name="foreign-code", daemon=True).start()

    def result(self, timeout_s: float) -> Made:
        """Raises Late, Failed, and RunnerError where the code itself raised one."""
        self._done.wait(timeout_s)
        with self._lock:
            self._given_up = not self._done.is_set()
        if self._given_up:
            raise Late(f"it did not return within {timeout_s:g} s")
        if self._error is not None:
            raise self._error
        return self._made[0]

    def _run(self) -> None:
        try:
            self._made.append(self._work())
        except BaseException as error:
            self._error = _own(error)
        with self._lock:
            self._done.set()
            late = self._late if self._given_up else None
        if late is not None and self._made:
            try:
                late(self._made[0])
            except BaseException:
                log.exception("what came too late could not be undone")


def called(
    work: Callable[[], Made], timeout_s: float, late: Callable[[Made], object] | None = None
) -> Made:
    """Raises Failed, and RunnerError where the code itself raised one."""
    return Call(work, late).result(timeout_s)


def told(error: BaseException) -> str:
    """An exception in one line. Runs the exception's own code."""
    try:
        text = f"{type(error).__name__}: {error}".removesuffix(": ")
    except BaseException:
        text = type(error).__name__
    return shorten(text, SHOWN, placeholder=" …")


def _own(error: BaseException) -> Failed | RunnerError:
    """The same without the code's own objects, whose texts may be functions that hang: nobody who
    prints it runs any. To be called under the limit."""
    log.debug("another's code failed", exc_info=error)
    if not issubclass(type(error), RunnerError):
        return Failed(told(error))
    try:
        return _plain(cast(RunnerError, error))
    except BaseException as second:
        return Failed(told(second))


def _plain(error: RunnerError) -> RunnerError:
    kind = next(one for one in type(error).__mro__ if one.__module__ == RunnerError.__module__)
    return cast(type[RunnerError], kind)(
        str(error.message), hint=str(error.hint), log=[str(line) for line in error.log]
    )
