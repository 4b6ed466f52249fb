"""What an option, a parameter or a flag speaks of, so that two ways of saying one thing are seen.

A meaning is the name of an option, or of a flag where no option says the same.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.engines.base import Engine
from runner.engines.configured import Configured
from runner.engines.flag_help import help_flags
from runner.engines.flag_names import target_of
from runner.engines.flags import FlagRules, Inverse, Switched, known_name, parsed, written
from runner.engines.option_values import known_option, options_from, options_json
from runner.errors import BadInput

if TYPE_CHECKING:
    from runner.settings import BackendSettings

_NO = "--no-"


@dataclass(frozen=True, slots=True)
class Claim:
    """One thing that is set: `meanings` are what it speaks of, `text` is what it says of them
    (None: nothing any more), `shown` is how it was written."""

    meanings: frozenset[str]
    text: str | None
    shown: str

    def contradicts(self, other: Claim) -> bool:
        return not self.meanings.isdisjoint(other.meanings) and not _same(self.text, other.text)


@dataclass(frozen=True, slots=True)
class Reader:
    """How an engine reads flags: its rules, and what its operator allowed."""

    rules: FlagRules
    allowed: frozenset[str] = frozenset()


def reader_of(engine: Engine, backend: BackendSettings) -> Reader:
    return Reader(engine.flag_rules, frozenset(backend.allowed_flags))


def every_meaning(text: str, options: Mapping[str, Sequence[str]]) -> Mapping[str, frozenset[str]]:
    """Of each spelling that a `--help` gives of a flag; `options` are those that flags say under
    names unlike their own."""
    found: dict[str, frozenset[str]] = {}
    for flag in help_flags(text):
        said = [one for name in flag.names for one in options.get(name, _named(name))]
        meanings = frozenset(said) or frozenset({flag.names[-1]})
        found |= dict.fromkeys(flag.names, meanings)
    return found


def of_flag(flag: str, rules: FlagRules) -> frozenset[str]:
    name = known_name(flag, rules) or flag
    if name in rules.options:
        return frozenset({rules.options[name]})
    if name in rules.says:
        return rules.says[name]
    positive = "--" + name.removeprefix(_NO)
    if name.startswith(_NO) and positive in rules.known:
        name = positive
    return frozenset(_named(name) or (name,))


def of_parameter(name: str, rules: FlagRules) -> frozenset[str]:
    """Empty for one that the engine does not know."""
    target = target_of(name, rules)
    if isinstance(target, Inverse | Switched):
        return frozenset({target.option})
    if target is None:
        return frozenset()
    return of_flag(target, rules) if target.startswith("-") else frozenset({target})


def of_options(options: Mapping[str, Any]) -> tuple[Claim, ...]:
    """By their own names."""
    return tuple(Claim(frozenset({name}), _text(value), name) for name, value in options.items())


def of_parameters(
    parameters: Mapping[str, str | None], readers: Sequence[Reader]
) -> tuple[Claim, ...]:
    """As every engine means them that knows them."""
    return tuple(
        Claim(_union(of_parameter(name, one.rules) for one in readers), value, name)
        for name, value in parameters.items()
    )


def of_flags(flags: Sequence[str], readers: Sequence[Reader]) -> tuple[Claim, ...]:
    """As the first engine reads them that takes them all; none where none does."""
    reader = _first(flags, readers)
    if reader is None:
        return ()
    return tuple(
        Claim(of_flag(flag, reader.rules), _value(flag, values), flag)
        for flag, values in parsed(flags, reader.rules, allowed=reader.allowed)
    )


def of_all(configured: Configured, readers: Sequence[Reader]) -> frozenset[str]:
    """The meanings of everything that is set."""
    claims = (
        *of_options(options_json(configured.options)),
        *of_parameters(configured.parameters, readers),
        *of_flags(configured.flags, readers),
    )
    return _union(claim.meanings for claim in claims)


def without(
    configured: Configured, meanings: Collection[str], readers: Sequence[Reader]
) -> Configured:
    """Less all that speaks of any of these."""
    options = options_json(configured.options)
    parameters = {
        claim.shown: configured.parameters[claim.shown]
        for claim in of_parameters(configured.parameters, readers)
        if claim.meanings.isdisjoint(meanings)
    }
    return Configured(
        options_from({name: options[name] for name in options if name not in meanings}),
        parameters,
        _flags_without(configured.flags, meanings, readers),
        configured.environment,
    )


def stacked(rows: Sequence[Configured], readers: Sequence[Reader]) -> Configured:
    """Merged, the first on top: what lies lower and speaks of the same is left out, however it was
    written there."""
    done = Configured()
    for row in reversed(rows):
        below = done if done == Configured() else without(done, of_all(row, readers), readers)
        done = row.over(below)
    return done


def _flags_without(
    flags: tuple[str, ...], meanings: Collection[str], readers: Sequence[Reader]
) -> tuple[str, ...]:
    """As they were written, where all of them stay."""
    reader = _first(flags, readers)
    if reader is None:
        return flags
    found = parsed(flags, reader.rules, allowed=reader.allowed)
    left = [one for one in found if of_flag(one[0], reader.rules).isdisjoint(meanings)]
    if len(left) == len(found):
        return flags
    return tuple(word for flag, values in left for word in written(flag, values, reader.rules))


def _first(flags: Sequence[str], readers: Sequence[Reader]) -> Reader | None:
    for reader in readers:
        try:
            parsed(flags, reader.rules, allowed=reader.allowed)
        except BadInput:
            continue
        return reader
    return None


def _named(flag: str) -> tuple[str, ...]:
    """The option of the same name."""
    name = known_option(flag) if flag.startswith("--") else None
    return (name,) if name else ()


def _union(parts: Iterator[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*parts)


def _value(flag: str, values: Sequence[str]) -> str:
    """A flag that takes no value says yes, or no."""
    return ",".join(values) if values else _text(not flag.startswith(_NO)) or ""


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return ",".join(str(part) for part in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _same(one: str | None, other: str | None) -> bool:
    if one is None or other is None:
        return one is other
    try:
        return float(one) == float(other)
    except ValueError:
        return one.strip().lower() == other.strip().lower()
