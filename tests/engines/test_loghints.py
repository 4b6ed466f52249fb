"""How a hint is found in a log."""

from __future__ import annotations

from runner.engines.loghints import MAX_LINE, Hint, cause_in, hint_from

HINTS = (
    Hint(r"unknown flag (?P<flag>\S+)(?: in (?P<file>\S+))?", "take {flag} out{file}"),
    Hint(r"unknown", "nothing is known"),
    Hint(r"OUT OF memory", "use less"),
)


def test_the_newest_line_counts() -> None:
    assert hint_from(["out of memory", "unknown thing"], HINTS) == "nothing is known"
    assert hint_from(["unknown thing", "Out Of Memory"], HINTS) == "use less"


def test_of_several_the_first_of_the_table_counts() -> None:
    assert hint_from(["unknown flag --x"], HINTS) == "take --x out"


def test_groups_go_into_the_advice() -> None:
    assert hint_from(["unknown flag --x in a.yaml"], HINTS) == "take --x outa.yaml"


def test_braces_in_a_line_are_no_trouble() -> None:
    assert hint_from(["unknown flag {0}{flag}"], HINTS) == "take {0}{flag} out"


def test_nothing_known_is_no_hint() -> None:
    assert hint_from(["all is well"], HINTS) == ""
    assert hint_from([], HINTS) == ""


def test_a_long_line_is_looked_at_from_its_start() -> None:
    assert hint_from(["x" * MAX_LINE + " out of memory"], HINTS) == ""


def test_a_cause_is_the_newest_error_that_points_to_no_other() -> None:
    log = [
        "torch.OutOfMemoryError: of old",
        "ERROR 12:00 [core.py] pydantic.ValidationError: 1 error for X",
        "RuntimeError: failed. See root cause above.",
        "an error: of no kind",
    ]
    assert cause_in(log) == "pydantic.ValidationError: 1 error for X"
    assert cause_in(log[3:]) == cause_in([]) == ""
