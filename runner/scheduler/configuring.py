"""What a `configure` makes of a model's configuration: kept, or refused whole. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runner.engines.base import Engine
from runner.engines.configured import Change, Configured
from runner.engines.description import Form
from runner.engines.flag_names import named, routed
from runner.engines.flags import checked
from runner.engines.option_values import (
    ALIASES,
    option_name,
    option_names,
    options_from,
    options_json,
)
from runner.engines.templates import refuse_named_file
from runner.engines.vllm_overrides import route_overrides
from runner.errors import BadInput, RunnerError
from runner.names import near_hint
from runner.scheduler.order import Settled
from runner.scheduler.settling import settled
from runner.settings import BackendSettings

FLAGS = "flags"
"""What `unset` calls all flags together."""

_OVERRIDES = "hf_overrides"
_NEAR = "did you mean "


@dataclass(frozen=True, slots=True)
class Asked:
    """What a user wrote. `values` are options and parameters by any of their names, None takes one
    out again, as it does with a variable; `flags` None leaves them. `unset` are names of either,
    or `flags`. `reset` forgets what was configured before."""

    values: Mapping[str, Any] = field(default_factory=dict)
    flags: Sequence[str] | None = None
    environment: Mapping[str, str | None] = field(default_factory=dict)
    unset: Sequence[str] = ()
    reset: bool = False

    @property
    def adds(self) -> bool:
        """Whether it sets anything: what only takes away is never refused for what is left."""
        given = (*self.values.values(), *self.environment.values())
        return bool(self.flags) or any(value is not None for value in given)


@dataclass(frozen=True, slots=True)
class World:
    """What a change is judged by: the `engines` that would serve the model, the operator's
    `backend` settings by name, and `merged`: all that holds for an engine if this is kept."""

    engines: Sequence[Engine]
    backend: Callable[[str], BackendSettings]
    merged: Callable[[str, Configured], Configured]

    @property
    def names(self) -> str:
        return ", ".join(engine.description.name for engine in self.engines)


@dataclass(frozen=True, slots=True)
class Effect:
    """What an engine makes of it: `settled`, or the `problem` for which it would not start.
    `lacks` are options that it can't carry out, so that it is not chosen."""

    engine: str
    settled: Settled | None
    problem: RunnerError | None
    lacks: tuple[str, ...]

    @property
    def serves(self) -> bool:
        return self.settled is not None and not self.lacks


@dataclass(frozen=True, slots=True)
class Outcome:
    kept: Configured
    messages: tuple[str, ...]
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class _Read:
    """`options` by their own names; `messages` say what was taken for something else."""

    options: Mapping[str, Any] = field(default_factory=dict)
    parameters: Mapping[str, str | None] = field(default_factory=dict)
    flags: Sequence[str] | None = None
    messages: tuple[str, ...] = ()


def configured(asked: Asked, before: Configured, world: World) -> Outcome:
    """Raises BadInput for a value, name or flag that no engine takes which would serve."""
    kept_before = Configured() if asked.reset else before
    taken = _unset(asked, kept_before)
    before_now = taken.applied(kept_before)
    given = _values(asked.values, world)
    over, flags = _overrides(given.options), _flags(asked.flags, world)
    change = Change(
        options=_once(_once(over.options, flags.options), given.options),
        parameters=given.parameters,
        flags=_joined(before_now.flags if flags.flags is None else flags.flags, over.flags or ()),
        environment=asked.environment,
    )
    kept = change.applied(before_now)
    effects = tuple(_effect(engine, kept, world) for engine in world.engines)
    if asked.adds and not any(effect.serves for effect in effects):
        raise _refusal(effects, world)
    return Outcome(kept, (*over.messages, *flags.messages), effects)


def _values(values: Mapping[str, Any], world: World) -> _Read:
    options: dict[str, Any] = {}
    parameters: dict[str, str | None] = {}
    for name, value in values.items():
        option = _option(name)
        if option and option in options:
            raise _twice(option)
        if option:
            options[option] = value
        else:
            parameters[name] = _parameter(name, value, world)
    return _Read(options, parameters)


def _option(name: str) -> str:
    try:
        return option_name(name)
    except BadInput:
        return ""


def _parameter(name: str, value: object, world: World) -> str | None:
    """One that an engine knows; raises BadInput."""
    if value is None:
        return None
    if isinstance(value, list | dict):
        raise BadInput(f"{name} is {value!r}, which is not one value", hint="give a text or number")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    problems = []
    for engine in world.engines:
        try:
            named({name: text}, engine.flag_rules)
        except BadInput as error:
            problems.append((engine, error))
        else:
            return text
    raise _unknown_parameter(name, problems, world)


def _unknown_parameter(
    name: str, problems: Sequence[tuple[Engine, BadInput]], world: World
) -> BadInput:
    """What the engine says that knows the name and refuses it, else the nearest name of all."""
    plain = name.strip().replace("-", "_")
    for engine, error in problems:
        rules = engine.flag_rules
        if plain in rules.nested or plain in rules.impossible:
            return BadInput(f"{engine.description.name}: {error.message}", hint=error.hint)
    known = {nested for engine in world.engines for nested in engine.flag_rules.nested}
    near = near_hint(plain, [*option_names(), *ALIASES, *sorted(known)], "")
    hint = near if near.startswith(_NEAR) else "give the engine's own flag instead, after --"
    return BadInput(f"{name!r} is no option, and no parameter of {world.names}", hint=hint)


def _overrides(options: Mapping[str, Any]) -> _Read:
    """Takes engine options out of `hf_overrides`, which is meant for the model's own fields."""
    if options.get(_OVERRIDES) is None:
        return _Read(options={})
    wanted = options_from({_OVERRIDES: options[_OVERRIDES]}).hf_overrides
    found = route_overrides(wanted)
    values = {**options_json(found.options), _OVERRIDES: dict(found.remaining) or None}
    return _Read(values, flags=found.flags, messages=found.messages)


def _flags(flags: Sequence[str] | None, world: World) -> _Read:
    """As the first engine reads them that takes them all: those for an option become one."""
    if not flags:
        return _Read(flags=flags)
    problems = []
    for engine in world.engines:
        allowed = frozenset(world.backend(engine.description.name).allowed_flags)
        try:
            found = routed(flags, engine.flag_rules)
            refuse_named_file(found.options)
            checked(found.flags, engine.flag_rules, allowed=allowed)
        except BadInput as error:
            problems.append((engine.description.name, error))
        else:
            return _Read(found.options, flags=found.flags or None, messages=found.messages)
    raise _together(problems)


def _joined(flags: Sequence[str], more: Sequence[str]) -> Sequence[str]:
    """Those of overrides come last; asked for again, they are not given twice."""
    if tuple(flags[len(flags) - len(more) :]) == tuple(more):
        return flags
    return (*flags, *more)


def _once(first: Mapping[str, Any], second: Mapping[str, Any]) -> Mapping[str, Any]:
    """Both; raises BadInput for an option that two ways of saying it set."""
    for name in first:
        if name in second and name != _OVERRIDES:
            raise _twice(name)
    return {**second, **first}


def _twice(option: str) -> BadInput:
    return BadInput(f"{option} is given twice, in two ways", hint="keep one")


def _unset(asked: Asked, before: Configured) -> Change:
    """What `unset` takes out; raises BadInput with the nearest of what is set."""
    options: dict[str, Any] = {}
    parameters: dict[str, str | None] = {}
    environment: dict[str, str | None] = {}
    for name in asked.unset:
        if name in before.parameters:
            parameters[name] = None
        elif name in before.environment:
            environment[name] = None
        elif option := _option(name):
            options[option] = None
        elif name != FLAGS:
            there = (*before.options.set_fields(), *before.parameters, *before.environment)
            raise BadInput(f"{name!r} is not set", hint=near_hint(name, there, "set are"))
    return Change(options, parameters, () if FLAGS in asked.unset else None, environment)


def _effect(engine: Engine, kept: Configured, world: World) -> Effect:
    name = engine.description.name
    native = all(variant.form is not Form.IMAGE for variant in engine.description.variants)
    try:
        wanted = world.merged(name, kept)
        found, problem = settled(engine, world.backend(name), wanted, native=native), None
    except RunnerError as error:
        found, problem = None, error
    options = found.options if found else world.merged(name, kept).options
    lacks = tuple(one for one in options.set_fields() if one not in engine.supported)
    return Effect(name, found, problem, lacks)


def _refusal(effects: Sequence[Effect], world: World) -> BadInput:
    problems = [(one.engine, one.problem) for one in effects if one.problem is not None]
    if problems:
        return _together(problems)
    lacks = next((effect for effect in effects if effect.lacks), None)
    missing = lacks.lacks[0] if lacks else "this"
    return BadInput(
        f"{missing} is nothing that {world.names} can do",
        hint="take it out, or configure it for another engine with --backend",
    )


def _together(problems: Sequence[tuple[str, RunnerError]]) -> BadInput:
    """The most helpful of what the engines say, with the names of those that say it."""
    helpful = (error for _, error in problems if error.hint.startswith(_NEAR))
    told = next(helpful, problems[0][1])
    names = ", ".join(name for name, error in problems if error.message == told.message)
    return BadInput(f"{names}: {told.message}", hint=told.hint)
