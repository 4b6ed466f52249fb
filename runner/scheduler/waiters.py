"""Requests that wait for an instance, known to the scheduler by their numbers."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

from runner.errors import RunnerError
from runner.scheduler.lease import Lease
from runner.scheduler.routes import Stamp
from runner.scheduler.succession import StandIn


@dataclass(frozen=True, slots=True, eq=False)
class Waiter:
    """One request. `stamp` is what it was planned under, `stands_in` for whom it would be
    answered. `answer` becomes a lease, None where it has to be planned anew, or an error."""

    number: int
    stamp: Stamp
    stands_in: StandIn | None
    answer: asyncio.Future[Lease | None]


class Waiters:
    def __init__(self) -> None:
        self._waiting: dict[int, Waiter] = {}
        self._numbers = itertools.count(1)

    def join(self, stamp: Stamp, stands_in: StandIn | None) -> Waiter:
        answer: asyncio.Future[Lease | None] = asyncio.get_running_loop().create_future()
        waiter = Waiter(next(self._numbers), stamp, stands_in, answer)
        self._waiting[waiter.number] = waiter
        return waiter

    def leave(self, waiter: Waiter) -> None:
        self._waiting.pop(waiter.number, None)

    def outdated(self, stamp: Stamp) -> frozenset[int]:
        """Those whose plan may come out otherwise by now."""
        return frozenset(one.number for one in self._waiting.values() if one.stamp != stamp)

    def stands_in(self, number: int) -> StandIn | None:
        waiter = self._waiting.get(number)
        return waiter.stands_in if waiter is not None else None

    def answer(self, number: int, lease: Lease | None) -> bool:
        """Whether it still waited."""
        waiter = self._waiting.get(number)
        if waiter is None or waiter.answer.done():
            return False
        waiter.answer.set_result(lease)
        return True

    def refuse(self, number: int, error: RunnerError) -> None:
        waiter = self._waiting.get(number)
        if waiter is not None and not waiter.answer.done():
            waiter.answer.set_exception(error)
