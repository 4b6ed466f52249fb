"""Names of the store that somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

from runner.registry.reference import Reference

_MOST = 2
_ALIKE = 0.8


def near_names(wanted: Reference, there: Iterable[Reference]) -> list[str]:
    """At most two names, in short, the nearest first. The last part of their path is nearly the
    wanted one's: another registry, organisation or tag is soon forgotten, another model is none."""
    near = {name.short for name in there if _likeness(_last(wanted), _last(name)) >= _ALIKE}
    return sorted(near, key=lambda name: (-_likeness(wanted.short, name), name))[:_MOST]


def _last(name: Reference) -> str:
    return name.repository.rpartition("/")[2].lower()


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one, other).ratio()
