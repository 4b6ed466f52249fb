"""Lines out of a stream of bytes that is cut anywhere."""

from __future__ import annotations

MAX_LINE = 64 * 1024
"""A longer line is handed out in pieces of this many bytes."""


class LineSplitter:
    """Holds at most one unfinished line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[str]:
        *whole, rest = (self._rest + chunk).split(b"\n")
        while len(rest) > MAX_LINE:
            whole.append(rest[:MAX_LINE])
            rest = rest[MAX_LINE:]
        self._rest = rest
        return [_text(line) for line in whole]

    def flush(self) -> list[str]:
        """What came after the last line's end."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", "replace")
