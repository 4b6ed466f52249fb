"""Reads the end of a log file."""

from __future__ import annotations

from pathlib import Path

TAIL_BYTES = 256 * 1024


def last_lines(file: Path, count: int) -> list[str]:
    """At most `count` lines from the end; none where the file is absent."""
    try:
        with file.open("rb") as opened:
            size = opened.seek(0, 2)
            opened.seek(max(0, size - TAIL_BYTES))
            text = opened.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-count:]
