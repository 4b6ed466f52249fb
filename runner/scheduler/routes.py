"""What a request's words led to the last time: good as long as models and installs stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runner.engines.base import Mode
from runner.scheduler.succession import StandIn

Route = tuple[str | None, str, Mode]
"""The path's engine, the model's name as the client wrote it, the mode."""

Stamp = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Goal:
    """Where a route leads, and for whom that instance answers there: by another route the same
    one may be the first choice."""

    instance: str
    stands_in: StandIn | None = None


class Routes:
    """`stamp` changes whenever a route may lead elsewhere; it is asked at every look-up."""

    def __init__(self, stamp: Callable[[], Stamp]) -> None:
        self._stamp = stamp
        self._good_for: Stamp = ()
        self._known: dict[Route, Goal] = {}

    def goal(self, route: Route) -> Goal | None:
        known = self._known.get(route)
        if known is None or self._stamp() != self._good_for:
            return None
        return known

    def remember(self, route: Route, goal: Goal, stamp: Stamp) -> None:
        """Keeps what was found out under `stamp`, if that still holds."""
        if stamp != self._stamp():
            return
        if stamp != self._good_for:
            self._known.clear()
            self._good_for = stamp
        self._known[route] = goal

    def forget(self, instance: str) -> None:
        self._known = {
            route: goal for route, goal in self._known.items() if goal.instance != instance
        }
