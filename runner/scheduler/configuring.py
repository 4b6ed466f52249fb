"""What a `configure` makes of a model's configuration: kept, or refused whole. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import Any

from runner.engines.base import Engine
from runner.engines.configured import Change, Configured
from runner.engines.description import Form
from runner.engines.flag_names import named, routed, target_of
from runner.engines.flags import Inverse, Switched, checked
from runner.engines.meanings import (
    Claim,
    Reader,
    of_flags,
    of_options,
    of_parameters,
    reader_of,
    without,
)
from runner.engines.option_values import (
    ALIASES,
    known_option,
    option_names,
    options_from,
    options_json,
)
from runner.engines.templates import refuse_named_file
from runner.errors import BadInput, RunnerError
from runner.names import near_hint
from runner.scheduler.order import Settled
from runner.scheduler.settling import routed_overrides, settled
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
    def readers(self) -> tuple[Reader, ...]:
        return tuple(
            reader_of(engine, self.backend(engine.description.name)) for engine in self.engines
        )

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
    """The newest word on a thing is kept, in whichever way it was said before. Raises BadInput for
    a value, name or flag that no engine takes which would serve, and for what contradicts
    itself."""
    kept_before = Configured() if asked.reset else before
    before_now = _unset(asked, kept_before, world).applied(kept_before)
    given = _values(asked.values, world)
    over, flags = _overrides(given.options), _flags(asked.flags, world)
    claims = _agreeing(given, over, flags, world)
    meant = frozenset[str]().union(*(one.meanings for one in claims if one.text is not None))
    older = without(before_now, meant, world.readers)
    change = Change(
        options={**flags.options, **given.options, **over.options},
        parameters=given.parameters,
        flags=(*(older.flags if flags.flags is None else flags.flags), *(over.flags or ())),
        environment=asked.environment,
    )
    kept = change.applied(older)
    effects = tuple(_effect(engine, kept, world) for engine in world.engines)
    if asked.adds and not any(effect.serves for effect in effects):
        raise _refusal(effects, world)
    return Outcome(kept, (*given.messages, *over.messages, *flags.messages), effects)


def _agreeing(given: _Read, over: _Read, flags: _Read, world: World) -> tuple[Claim, ...]:
    """All that is set; raises BadInput for one thing that two ways of saying it set unlike."""
    readers = world.readers
    own = {
        name: value
        for name, value in given.options.items()
        if name != _OVERRIDES or not over.options
    }
    kinds = (
        of_options(_typed(own)),
        of_options(_typed(over.options)),
        of_options(_typed(flags.options)),
        *((claim,) for claim in of_parameters(given.parameters, readers)),
        of_flags(over.flags or (), readers),
        of_flags(flags.flags or (), readers),
    )
    for first, second in combinations(kinds, 2):
        for one, other in product(first, second):
            if one.contradicts(other):
                raise _twice(one.shown, other.shown)
    return tuple(claim for kind in kinds for claim in kind)


def _typed(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Each as it is kept, so that two ways of writing a value are one; raises BadInput."""
    return {**options, **options_json(options_from(options))}


def _values(values: Mapping[str, Any], world: World) -> _Read:
    options: dict[str, Any] = {}
    parameters: dict[str, str | None] = {}
    messages: list[str] = []
    for name, value in values.items():
        read = _named_option(_option(name), value) or _parameter(name, value, world)
        for option, found in read.options.items():
            if option in options and _typed({option: options[option]}) != _typed({option: found}):
                raise _twice(option, name)
            options[option] = found
        parameters |= read.parameters
        messages += read.messages
    return _Read(options, parameters, messages=tuple(messages))


def _named_option(option: str, value: object) -> _Read | None:
    return _Read({option: value}) if option else None


def _option(name: str) -> str:
    return known_option(name) or ""


def _parameter(name: str, value: object, world: World) -> _Read:
    """One that an engine knows: where all of them take it for an option, it is that option.
    Raises BadInput."""
    option = _option_of(name, world)
    if value is None:
        return _Read({option: None} if option else {}, {name: None})
    if isinstance(value, list | dict):
        raise BadInput(f"{name} is {value!r}, which is not one value", hint="give a text or number")
    text = str(value).lower() if isinstance(value, bool) else str(value)
    problems = []
    for engine in world.engines:
        try:
            found = named({name: text}, engine.flag_rules)
        except BadInput as error:
            problems.append((engine, error))
            continue
        if option:
            return _Read(found.options, messages=found.messages)
        return _Read(parameters={name: text})
    raise _unknown_parameter(name, problems, world)


def _option_of(name: str, world: World) -> str:
    """The option that a parameter stands for, "" where the engines that know it do not agree."""
    found = [target_of(name, engine.flag_rules) for engine in world.engines]
    targets = {target for target in found if target is not None}
    if len(targets) != 1:
        return ""
    (target,) = targets
    if isinstance(target, Inverse | Switched):
        return target.option
    return "" if target.startswith("-") else target


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
    found = routed_overrides(wanted)
    values = {**options_json(found.options), _OVERRIDES: dict(found.remaining) or None}
    return _Read(values, flags=found.flags, messages=found.messages)


def _flags(flags: Sequence[str] | None, world: World) -> _Read:
    """As the first engine reads them that takes them all: those for an option become one."""
    if not flags:
        return _Read(flags=flags)
    problems = []
    for engine, reader in zip(world.engines, world.readers, strict=True):
        try:
            found = routed(flags, reader.rules)
            refuse_named_file(found.options)
            checked(found.flags, reader.rules, allowed=reader.allowed)
        except BadInput as error:
            problems.append((engine.description.name, error))
        else:
            return _Read(found.options, flags=found.flags or None, messages=found.messages)
    raise _together(problems)


def _twice(one: str, other: str) -> BadInput:
    ways = one if one == other else f"{one} and {other}"
    return BadInput(f"{ways}: one thing is given twice, in two ways that differ", hint="keep one")


def _unset(asked: Asked, before: Configured, world: World) -> Change:
    """What `unset` takes out; raises BadInput with the nearest of what is set."""
    options: dict[str, Any] = {}
    parameters: dict[str, str | None] = {}
    environment: dict[str, str | None] = {}
    for name in asked.unset:
        if name in before.parameters:
            parameters[name] = None
        elif name in before.environment:
            environment[name] = None
        elif option := _option(name) or _option_of(name, world):
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
