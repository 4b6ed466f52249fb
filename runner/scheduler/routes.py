"""What a request's words led to the last time: good as long as models and installs stay."""

from __future__ import annotations

from collections.abc import Callable

from runner.engines.base import Mode

Route = tuple[str | None, str, Mode]
"""The path's engine, the model's name as the client wrote it, the mode."""

Stamp = tuple[object, ...]


class Routes:
    """`stamp` changes whenever a route may lead elsewhere; it is asked at every look-up."""

    def __init__(self, stamp: Callable[[], Stamp]) -> None:
        self._stamp = stamp
        self._good_for: Stamp = ()
        self._known: dict[Route, str] = {}

    def instance(self, route: Route) -> str | None:
        known = self._known.get(route)
        if known is None or self._stamp() != self._good_for:
            return None
        return known

    def remember(self, route: Route, instance: str, stamp: Stamp) -> None:
        """Keeps what was found out under `stamp`, if that still holds."""
        if stamp != self._stamp():
            return
        if stamp != self._good_for:
            self._known.clear()
            self._good_for = stamp
        self._known[route] = instance

    def forget(self, instance: str) -> None:
        self._known = {route: name for route, name in self._known.items() if name != instance}
