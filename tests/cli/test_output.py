"""Tables that fit a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from runner.cli.output import fitted, note, table

COLUMNS: list[Sequence[str]] = [
    ("MODEL", "localhost:5000/mymodel:F16"),
    ("ARCHITECTURE", "llama"),
    ("CONTEXT", "512"),
    ("SIZE", "2.6 MB"),
]


def headings(width: int) -> list[str]:
    return [column[0] for column in fitted(COLUMNS, width, ("ARCHITECTURE", "CONTEXT"))]


def test_what_fits_stays() -> None:
    assert fitted(COLUMNS, 57, ("ARCHITECTURE", "CONTEXT")) == [
        list(COLUMNS[0]),
        *COLUMNS[1:],
    ]


def test_spare_columns_go_one_after_the_other() -> None:
    assert headings(56) == ["MODEL", "CONTEXT", "SIZE"]
    assert headings(42) == ["MODEL", "SIZE"]


def test_the_first_column_keeps_its_end() -> None:
    first, last = fitted(COLUMNS, 30, ("ARCHITECTURE", "CONTEXT"))
    assert first == ["MODEL", "…host:5000/mymodel:F16"]
    assert last == COLUMNS[-1]


def test_what_a_file_says_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    note("an architecture\x1b]0;x\x07 of\n\tnames")
    table(["MODEL"], [["a\x1b[31mb"], ["é 模"]])
    shown = capsys.readouterr()
    assert shown.err == "an architecture�]0;x� of\n\tnames\n"
    assert shown.out == "MODEL\na�[31mb\né 模\n"
