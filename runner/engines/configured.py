"""What was configured for a model: options, flags and environment, kept as one JSON document."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.engines.option_values import option_name, options_from, options_json
from runner.engines.options import Options
from runner.errors import BadInput


@dataclass(frozen=True, slots=True)
class Configured:
    """`parameters` are names of one engine's own, such as `sampling.top_k`; `flags` go to it as
    they are, `environment` too, all as far as its rules allow."""

    options: Options = field(default_factory=Options)
    parameters: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def over(self, below: Configured) -> Configured:
        """Merged field by field: options, parameters and variables singly, flags as a whole."""
        return Configured(
            self.options.over(below.options),
            {**below.parameters, **self.parameters},
            self.flags or below.flags,
            {**below.environment, **self.environment},
        )

    @property
    def is_empty(self) -> bool:
        return self == Configured()


@dataclass(frozen=True, slots=True)
class Change:
    """What a `configure` asks for: a None takes an option, parameter or variable out again;
    `flags` None leaves them."""

    options: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, str | None] = field(default_factory=dict)
    flags: Sequence[str] | None = None
    environment: Mapping[str, str | None] = field(default_factory=dict)

    def applied(self, before: Configured) -> Configured:
        """Raises BadInput."""
        named = {option_name(name): value for name, value in self.options.items()}
        if len(named) < len(self.options):
            raise BadInput("an option is given twice, under two of its names", hint="keep one")
        options = {**options_json(before.options), **named}
        return Configured(
            options_from(options),
            _without_none({**before.parameters, **self.parameters}),
            before.flags if self.flags is None else tuple(self.flags),
            _without_none({**before.environment, **self.environment}),
        )


def _without_none(values: Mapping[str, str | None]) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}


def to_document(configured: Configured) -> str:
    """As it is kept; "" for nothing."""
    if configured.is_empty:
        return ""
    return json.dumps(configured_json(configured), sort_keys=True)


def from_document(document: str) -> Configured:
    """Raises BadInput for what this version can't read."""
    if not document:
        return Configured()
    try:
        read = json.loads(document)
        return Configured(
            options_from(read["options"]),
            dict(read["parameters"]),
            tuple(read["flags"]),
            dict(read["environment"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            "a stored configuration is not readable", hint="set it anew: runner configure --reset"
        ) from error


def configured_json(configured: Configured) -> dict[str, Any]:
    return {
        "options": options_json(configured.options),
        "parameters": dict(configured.parameters),
        "flags": list(configured.flags),
        "environment": dict(configured.environment),
    }
