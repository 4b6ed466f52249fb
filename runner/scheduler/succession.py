"""Who answers in whose place: in which turn engines are tried, and what is told of it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from runner.errors import RunnerError
from runner.scheduler.core import Key
from runner.scheduler.order import Order

LONGEST_REASON = 200
"""Characters of a reason that fit into one line of a person's attention."""


class Why(StrEnum):
    """What became of the first choice, in words."""

    DID_NOT_START = "did not start"
    KEEPS_FAILING = "keeps failing"


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why an engine goes last, and until when, in seconds on the clock it was noted by."""

    why: Why
    reason: str
    until: float


@dataclass(frozen=True, slots=True)
class StandIn:
    """For whom an engine answers: the first choice's `label` such as vllm/cpu, what became of that
    one, and the `reason` in one line."""

    label: str
    why: Why
    reason: str

    def told(self, by: str) -> str:
        return f"{self.label} {self.why} ({self.reason}): {by} answers"


@dataclass(frozen=True, slots=True)
class Succession:
    """Orders as they are tried now. `passed_over` says why the first choice is not the first of
    them, None where it is."""

    first: Order
    turns: tuple[Order, ...]
    passed_over: Trouble | None

    def stands_in(self, order: Order, failures: Mapping[Key, RunnerError]) -> StandIn | None:
        """For whom `order` answers; `failures` are those of the turns before."""
        label, failure = self.first.candidate.label, failures.get(self.first.key)
        if order is self.first:
            return None
        if failure is not None:
            return StandIn(label, Why.DID_NOT_START, one_line(failure.message))
        assert self.passed_over is not None, "the first choice has its turn, or is passed over"
        return StandIn(label, self.passed_over.why, self.passed_over.reason)


def succession(orders: Sequence[Order], trouble: Callable[[Key], Trouble | None]) -> Succession:
    """Those in trouble go last. `orders` are the first choice and what takes over from it."""
    first = orders[0]
    turns = tuple(sorted(orders, key=lambda order: trouble(order.key) is not None))
    return Succession(first, turns, None if turns[0] is first else trouble(first.key))


def one_line(text: str) -> str:
    """Printable, without line ends, and not too long."""
    words = " ".join("".join(one if one.isprintable() else " " for one in text).split())
    return words if len(words) <= LONGEST_REASON else f"{words[: LONGEST_REASON - 1]}…"
