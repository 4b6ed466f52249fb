"""Hints read from an engine's log: tables of patterns, and what a person can do about each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

MAX_LINE = 2000
"""Characters of a line that are looked at: an engine may print a whole prompt."""


_ERROR = re.compile(r"\b(?:\w+\.)*[A-Z]\w*(?:Error|Exception): \S.*")
_ELSEWHERE = re.compile(r"root cause|see (?:stack trace|the log)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Hint:
    """`pattern` is a regular expression, whatever the case of its letters; `advice` may use its
    named groups, as in "{name} is unknown"."""

    pattern: str
    advice: str


def hint_from(log: Sequence[str], hints: Sequence[Hint]) -> str:
    """What to do next: the newest line that a pattern is found in counts, and of several patterns
    the first of the table; "" where none is found."""
    for line in reversed(log):
        for hint in hints:
            found = _compiled(hint.pattern).search(line[:MAX_LINE])
            if found:
                groups = {name: text or "" for name, text in found.groupdict().items()}
                return hint.advice.format(**groups)
    return ""


def cause_in(log: Sequence[str]) -> str:
    """The newest line in which a Python program names its error, and not one that points to
    another; "" where there is none."""
    for line in reversed(log):
        found = _ERROR.search(line[:MAX_LINE])
        if found and not _ELSEWHERE.search(found[0]):
            return found[0].strip()
    return ""


@lru_cache(maxsize=512)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.I)
