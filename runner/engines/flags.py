"""An engine's own flags: which of them a user may pass through, and under which other names."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import IntEnum

from runner.engines.arguments import LONGEST, is_argument
from runner.errors import BadInput

_SHOWN = 40
_NUMBER = re.compile(r"-(\d|\.\d|inf\b)", re.I)


class Takes(IntEnum):
    """How many values stand behind a flag; False and True are NOTHING and ONE."""

    NOTHING = 0
    ONE = 1
    TWO = 2
    MAYBE = 3
    """None or one."""
    MANY = 4
    """One or more."""
    ANY = 5
    """None or more."""


_LEAST = {Takes.ONE: 1, Takes.TWO: 2, Takes.MANY: 1}
_MOST = {Takes.NOTHING: 0, Takes.ONE: 1, Takes.TWO: 2, Takes.MAYBE: 1}


@dataclass(frozen=True, slots=True)
class Inverse:
    """The option that a name switches off, as `no_mmap` does with `mmap`."""

    option: str


@dataclass(frozen=True, slots=True)
class Switched:
    """The option with the words on, off and perhaps others, that a name says true or false of."""

    option: str


Target = str | Inverse | Switched


@dataclass(frozen=True, slots=True)
class FlagRules:
    """`known`: flag → what it takes. `own`: flag → why the runner sets it itself. `dangerous`:
    flag → why it is refused until an operator allows it. `nested`: a user's name, such as `n_ctx`
    or `sampling.top_k` → a flag (with its dashes) or the name of a field of `Options`.
    `impossible`: a user's name → why the engine can't do that. `options`: a flag that the runner
    sets itself → the field of `Options` that says to what. `gone`: a flag of older versions → what
    stands in its place. `says`: a flag → the fields of `Options` of which it says the same in its
    own words, or one name for all its spellings.

    `joins`: the engine's parser knows `--flag=value`. `dotted`: it knows `--flag.part value` for
    parts of a flag whose value is JSON.
    """

    known: Mapping[str, bool | Takes]
    own: Mapping[str, str] = field(default_factory=dict)
    dangerous: Mapping[str, str] = field(default_factory=dict)
    nested: Mapping[str, Target] = field(default_factory=dict)
    impossible: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    gone: Mapping[str, str] = field(default_factory=dict)
    says: Mapping[str, frozenset[str]] = field(default_factory=dict)
    joins: bool = True
    dotted: bool = False


def checked(
    flags: Sequence[str], rules: FlagRules, *, allowed: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """A user's flags as the engine's parser wants them: each name as it is known, values apart.

    `allowed` is the operator's list: dangerous and unknown flags on it pass, the runner's own
    never do. Raises BadInput for an unknown, own or dangerous flag, for a value where none is
    taken, and for one that is missing.
    """
    return tuple(
        word
        for flag, values in parsed(flags, rules, allowed=allowed)
        for word in written(flag, values, rules)
    )


def parsed(
    flags: Sequence[str], rules: FlagRules, *, allowed: frozenset[str] = frozenset()
) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Each flag with its values; raises BadInput as `checked` does."""
    for word in flags:
        if not is_argument(word):
            raise BadInput(
                f"{word[:_SHOWN]!r} can't be an argument of a program",
                hint=f"no NUL, plain Unicode, {LONGEST} bytes at most",
            )
    words = deque(flags)
    found = []
    while words:
        found.append(_next(words, rules, allowed))
    return tuple(found)


def _next(
    words: deque[str], rules: FlagRules, allowed: frozenset[str]
) -> tuple[str, tuple[str, ...]]:
    word = words.popleft()
    if not is_flag(word):
        raise BadInput(
            f"{word!r} stands where a flag was expected",
            hint="a flag takes no more values than its help tells; join a text by quotes",
        )
    given, equals, joined = word.partition("=")
    name = known_name(given, rules)
    takes = _permitted(given, name, rules, allowed)
    flag = name or given
    values = [joined] if equals else []
    if equals and takes is Takes.NOTHING:
        raise BadInput(f"{flag} takes no value, but got {joined!r}", hint=f"write {flag} alone")
    wanted = _MOST.get(takes, len(words) + 1)
    while not (equals and takes is not Takes.TWO) and len(values) < wanted and words:
        if is_flag(words[0]):
            break
        values.append(words.popleft())
    if len(values) < _LEAST.get(takes, 0):
        raise without_value(flag)
    return flag, tuple(values)


def without_value(flag: str) -> BadInput:
    return BadInput(f"{flag} needs a value", hint=f"write {flag} VALUE, or {flag}=VALUE")


def written(flag: str, values: Sequence[str], rules: FlagRules) -> Iterator[str]:
    """argparse takes a text that begins with a dash only where it is joined to its flag."""
    if rules.joins and len(values) == 1 and is_flag(values[0]):
        yield f"{flag}={values[0]}"
        return
    yield flag
    yield from values


def is_flag(word: str) -> bool:
    """A negative number is none, nor is a lone dash."""
    return len(word) > 1 and word.startswith("-") and not _NUMBER.match(word)


def known_name(given: str, rules: FlagRules) -> str:
    """The name as the engine knows it, whichever of - and _ it was written with; or ""."""
    base, dot, part = given.partition(".") if rules.dotted else (given, "", "")
    for name in _spellings(base):
        if name in rules.known or name in rules.own or name in rules.dangerous:
            return name + dot + part
    return ""


def _spellings(name: str) -> Iterator[str]:
    yield name
    if name.startswith("--"):
        yield "--" + name[2:].replace("_", "-")
        yield "--" + name[2:].replace("-", "_")


def _permitted(given: str, name: str, rules: FlagRules, allowed: frozenset[str]) -> Takes:
    """What the flag takes; raises BadInput where it may not be passed."""
    base = name.partition(".")[0] if rules.dotted else name
    if base in rules.own:
        raise BadInput(
            f"{given} is set by the runner itself: {rules.own[base]}", hint="take it out"
        )
    is_allowed = not allowed.isdisjoint({given, base})
    if base in rules.dangerous and not is_allowed:
        raise BadInput(
            f"{given} is refused: {rules.dangerous[base]}",
            hint="an operator can allow it: `allowed_flags` of the engine, in the settings",
        )
    if base in rules.known:
        return Takes.ONE if base != name else Takes(rules.known[base])
    if given in rules.gone:
        raise BadInput(f"{given} is gone from this version of the engine", hint=rules.gone[given])
    if not is_allowed:
        raise BadInput(f"{given} is no flag of this engine", hint=_nearest(given, rules))
    return Takes.ANY


def _nearest(given: str, rules: FlagRules) -> str:
    near = get_close_matches(given, [*rules.known, *rules.own, *rules.dangerous], n=1)
    if not near:
        return "its help lists them; an operator can allow more"
    if near[0] in rules.own and near[0] not in rules.options:
        return f"the nearest is {near[0]}, which the runner sets itself: take it out"
    return f"did you mean {near[0]}?"
