"""The parity oracle: did an engine give the demo model's answers, word for word?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runner.demo import questions


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A question whose answer differs; `found` is None where none was given."""

    question: str
    expected: str
    found: str | None


def mismatches(answers: Mapping[str, str]) -> tuple[Mismatch, ...]:
    """Compares whole answers, by question; empty when every question has its exact answer."""
    return tuple(
        Mismatch(known.question, known.answer, answers.get(known.question))
        for known in questions()
        if answers.get(known.question) != known.answer
    )
