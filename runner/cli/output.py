"""The terminal's one renderer: results on stdout, everything for humans on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from runner.errors import RunnerError
from runner.registry.digest import hex_of

_LOG_LINES = 10
_UNITS = ("B", "kB", "MB", "GB", "TB")
_STEP = 1000


def fail(error: RunnerError) -> int:
    """Prints an error with its next step; its exit status."""
    for line in error.log[-_LOG_LINES:]:
        note(f"  | {line}")
    hint = f". Next: {error.hint}" if error.hint else ""
    note(f"runner: {error.message}{hint}")
    return error.exit_code


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their widest cell; plain text, quick for thousands of rows."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )


def size(count: float) -> str:
    """Bytes as people read them, decimal as registries count."""
    for unit in _UNITS[:-1]:
        if count < _STEP:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= _STEP
    return f"{count:.1f} {_UNITS[-1]}"


def short_id(digest: str) -> str:
    return hex_of(digest)[:12]
