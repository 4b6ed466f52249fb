"""The terminal's one renderer: results on stdout, everything for humans on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence

from runner.errors import RunnerError
from runner.registry.digest import hex_of

_LOG_LINES = 10
_UNITS = ("kB", "MB", "GB", "TB")
_STEP = 1000
_GAP = "  "
_LEAST = 12
"""Characters that a shortened cell keeps at least."""


def fail(error: RunnerError) -> int:
    """Prints an error with its next step; its exit status."""
    for line in error.log[-_LOG_LINES:]:
        note(f"  | {line}")
    hint = f". Next: {error.hint}" if error.hint else ""
    note(f"runner: {error.message}{hint}")
    return error.exit_code


def note(text: str) -> None:
    print(plain(text), file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """Without what would steer the terminal: much of what is shown was read from models' files."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in "\n\t" else "�" for one in text)


def show_json(value: object) -> None:
    """ASCII alone, and quick for thousands of values: json's own indentation is not."""
    import msgspec

    print(msgspec.json.format(json.dumps(value)))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str] = ()) -> None:
    """Columns as wide as their widest cell; plain text, quick for thousands of rows.

    With `spare`, it fits a terminal: these columns are left out one after the other as long as
    it is too wide, and then the first column's cells are shortened.
    """
    columns: list[Sequence[str]] = list(zip(header, *rows, strict=True))
    if spare and sys.stdout.isatty():
        from shutil import get_terminal_size

        columns = fitted(columns, get_terminal_size().columns, spare)
    line = _GAP.join(f"%-{max(map(len, column))}s" for column in columns)
    print("\n".join(plain((line % row).rstrip()) for row in zip(*columns, strict=True)))


def tabulated(header: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """The same as lines, for cells of sentences: what the last column has no room for goes on
    below it."""
    from textwrap import wrap

    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns[:-1]]
    indent = sum(widths) + len(_GAP) * len(widths)
    for *cells, last in zip(*columns, strict=True):
        begin = "".join(f"{cell:<{wide}}{_GAP}" for cell, wide in zip(cells, widths, strict=True))
        pieces = wrap(last, max(width - indent, _LEAST), break_on_hyphens=False) or [""]
        yield (begin + pieces[0]).rstrip()
        yield from (" " * indent + piece for piece in pieces[1:])


def fitted(columns: list[Sequence[str]], width: int, spare: Sequence[str]) -> list[Sequence[str]]:
    """Columns that begin with their headings, made to fit into `width` characters."""
    for heading in spare:
        if _width(columns) > width:
            columns = [column for column in columns if column[0] != heading]
    first, *others = columns
    room = max(width - _width([[""], *others]), _LEAST)
    return [[_shortened(cell, room) for cell in first], *others]


def _width(columns: Sequence[Sequence[str]]) -> int:
    return sum(max(map(len, column)) for column in columns) + len(_GAP) * (len(columns) - 1)


def _shortened(text: str, room: int) -> str:
    """Without its beginning: the end tells models and tags apart."""
    return text if len(text) <= room else f"…{text[len(text) - room + 1 :]}"


def size(count: float) -> str:
    """Bytes as people read them, decimal as registries count."""
    if count < _STEP:
        return f"{count:.0f} B"
    for unit in _UNITS:
        count /= _STEP
        if count < _STEP:
            return f"{count:.1f} {unit}"
    return f"{count:.1f} {_UNITS[-1]}"


def short_id(digest: str) -> str:
    return hex_of(digest)[:12]
