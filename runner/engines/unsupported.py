"""Refuses options that an engine has no way to carry out."""

from __future__ import annotations

from collections.abc import Mapping

from runner.engines.options import Options
from runner.errors import BadInput


def refuse_unsupported(
    title: str, options: Options, supported: frozenset[str], instead: Mapping[str, str]
) -> None:
    """Raises BadInput that names the first such option, with what to do `instead`."""
    for name in options.set_fields():
        if name not in supported:
            raise BadInput(
                f"{title} can't carry out {name}", hint=instead.get(name, f"take {name} out")
            )
