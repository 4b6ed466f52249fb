"""Other names for an engine's flags and for the runner's options."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from runner.engines.flags import (
    FlagRules,
    Inverse,
    Switched,
    Takes,
    Target,
    is_flag,
    known_name,
    without_value,
)
from runner.errors import BadInput

_TRUE = frozenset({"true", "on", "yes", "1", ""})
_FALSE = frozenset({"false", "off", "no", "0"})


@dataclass(frozen=True, slots=True)
class Named:
    """What nested names stand for: flags, values of `Options`, and a line to print for each."""

    flags: tuple[str, ...]
    options: Mapping[str, str]
    messages: tuple[str, ...]


def named(values: Mapping[str, str], rules: FlagRules, above: Collection[str] = ()) -> Named:
    """Turns nested names into flags and options; raises BadInput for a name that nothing has.

    The flags are not checked yet: a name may stand for one that is the runner's own. `above` are
    options that are set by what goes before: nothing is said of them.
    """
    flags: list[str] = []
    options: dict[str, str] = {}
    messages: list[str] = []
    setting: dict[str, str] = {}
    for name, value in values.items():
        target = _target(name, rules)
        if isinstance(target, str) and target.startswith("-"):
            words = _flag_words(name, target, value, rules)
            flags += words
            messages.append(f"{name} is passed as {' '.join(words) or 'nothing: it is so anyway'}")
            continue
        option, text = _option(name, target, value)
        options[option] = text
        setting[option] = f"{name} sets {option} to {text}"
    return Named(tuple(flags), options, (*messages, *_used(setting, above)))


def routed(flags: Sequence[str], rules: FlagRules, above: Collection[str] = ()) -> Named:
    """Takes out the flags that stand for an option of the runner's own, such as a context size.

    The flags that are left are not checked. `above` is as with `named`.
    """
    words = deque(flags)
    left: list[str] = []
    options: dict[str, str] = {}
    setting: dict[str, str] = {}
    while words:
        given, equals, value = words.popleft().partition("=")
        option = rules.options.get(known_name(given, rules))
        if option is None:
            left.append(given + equals + value)
            continue
        if not equals:
            if not words or is_flag(words[0]):
                raise without_value(given)
            value = words.popleft()
        options[option] = value
        setting[option] = f"{given} sets {option} to {value}"
    return Named(tuple(left), options, tuple(_used(setting, above)))


def target_of(name: str, rules: FlagRules) -> Target | None:
    """What a user's name stands for, None for one that the engine does not know."""
    return rules.nested.get(_plain(name))


def _plain(name: str) -> str:
    return name.strip().replace("-", "_")


def _used(setting: Mapping[str, str], above: Collection[str]) -> list[str]:
    return [message for option, message in setting.items() if option not in above]


def _target(name: str, rules: FlagRules) -> Target:
    plain = _plain(name)
    if plain in rules.impossible:
        raise BadInput(f"{name} can't be set: {rules.impossible[plain]}", hint="take it out")
    if plain in rules.nested:
        return rules.nested[plain]
    near = get_close_matches(plain, rules.nested, n=1)
    hint = f"did you mean {near[0]}?" if near else "give the engine's own flag instead"
    raise BadInput(f"{name!r} is no parameter of this engine", hint=hint)


def _flag_words(name: str, flag: str, value: str, rules: FlagRules) -> tuple[str, ...]:
    if Takes(rules.known.get(flag, Takes.ONE)) is not Takes.NOTHING:
        text = value.lower() if value.lower() in {"true", "false"} else value
        return (f"{flag}={text}",) if is_flag(text) else (flag, text)
    if truth(name, value):
        return (flag,)
    opposite = "--" + flag[5:] if flag.startswith("--no-") else "--no-" + flag[2:]
    return (opposite,) if opposite in rules.known else ()


def _option(name: str, target: Target, value: str) -> tuple[str, str]:
    if isinstance(target, Switched):
        word = value.strip().lower()
        return target.option, {"true": "on", "1": "on", "false": "off", "0": "off"}.get(word, word)
    if isinstance(target, Inverse):
        return target.option, "false" if truth(name, value) else "true"
    return target, value


def truth(name: str, value: str) -> bool:
    """Raises BadInput for what is neither yes nor no."""
    word = value.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise BadInput(f"{name} is {value!r}, which is neither true nor false", hint=f"{name}: true")
