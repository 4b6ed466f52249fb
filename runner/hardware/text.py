"""Words out of what tools print; what is not there is None or empty, never an error."""

from __future__ import annotations

import re

MIB = 1024 * 1024
UNITS = {"KIB": 1024, "MIB": MIB, "GIB": 1024 * MIB}
MAX_DIGITS = 20
"""Of an unsigned 64-bit number."""


def number(text: str | None, base: int = 10) -> int | None:
    """A whole number that is not negative."""
    word = (text or "").strip()
    if len(word) > MAX_DIGITS or not re.fullmatch(r"(0[xX])?[0-9a-fA-F]+", word):
        return None
    try:
        return int(word, base)
    except ValueError:
        return None


def size(text: str | None) -> int | None:
    """Bytes of such as 49152MiB, None for anything else."""
    match = re.fullmatch(r"\s*(\d{1,12})\s*([KMG]iB)\s*", text or "", re.ASCII | re.IGNORECASE)
    return int(match[1]) * UNITS[match[2].upper()] if match else None


def first_line(text: str | None) -> str:
    return next((line.strip() for line in (text or "").splitlines() if line.strip()), "")


def search(pattern: str, text: str | None) -> str:
    """The first group of the first match, empty where there is none; lines start anew at `^`."""
    match = re.search(pattern, text or "", re.MULTILINE | re.ASCII)
    return match[1] if match else ""
