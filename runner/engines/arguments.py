"""What the system takes as one argument of a program."""

from __future__ import annotations

LONGEST = 100_000
"""Bytes. Linux takes 131,071 with a flag's name before them, and reports a longer one as nothing
but a failed start."""


def is_argument(text: str) -> bool:
    """Whether a program can be started with it: no NUL, plain Unicode, not too long."""
    try:
        return "\0" not in text and len(text.encode()) <= LONGEST
    except UnicodeEncodeError:
        return False
