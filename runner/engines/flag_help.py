"""Reads which flags there are out of a program's captured `--help`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from runner.engines.flags import Takes

HELP_FILE = "help.txt"
_LINE = re.compile(r"(?P<indent> {0,4})(?P<rest>-{1,2}[A-Za-z].*)")
_HELP = re.compile(r" {2,}\S.*$")
_NAME = re.compile(r"-{1,2}[A-Za-z][\w.-]*")
_REMOVED = "argument has been removed"
_TWO_WORDS = re.compile(r"[A-Z][A-Z_]* [A-Z][A-Z_]*")


def captured_help(engine: str) -> str:
    """What the pinned version of an engine that ships prints; raises RunnerError for a broken
    installation."""
    from runner.engines.catalog import images_folder

    return (images_folder() / engine / HELP_FILE).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class HelpFlag:
    """One flag under all its spellings."""

    names: tuple[str, ...]
    takes: Takes


def from_help(text: str) -> Mapping[str, bool | Takes]:
    """Every spelling of every flag → what it takes.

    Reads llama-server's form (flags at the margin) and that of Python's argparse (indented).
    """
    return {name: flag.takes for flag in help_flags(text) for name in flag.names}


def every_spelling(table: Mapping[str, str], text: str) -> Mapping[str, str]:
    """The table, with each entry for all the spellings that the help gives its flag."""
    spread = dict(table)
    for flag in help_flags(text):
        known = [table[name] for name in flag.names if name in table]
        if known:
            spread |= dict.fromkeys(flag.names, known[0])
    return spread


@lru_cache(maxsize=8)
def help_flags(text: str) -> tuple[HelpFlag, ...]:
    """Without those that only say that they were removed."""
    return tuple(_flags(text))


def _flags(text: str) -> Iterator[HelpFlag]:
    for line in text.splitlines():
        found = _LINE.fullmatch(line.rstrip())
        if found and _REMOVED not in line:
            yield _flag(re.sub(r",\s+", ", ", found["rest"]), is_argparse=bool(found["indent"]))


def _flag(invocation: str, *, is_argparse: bool) -> HelpFlag:
    """Such as `-t, --threads N`, `--model MODEL, -m MODEL` or `--perf, --no-perf`."""
    names, hints = [], []
    for part in re.split(r", (?=-{1,2}[A-Za-z])", _HELP.sub("", invocation)):
        name, _, hint = part.partition(" ")
        names.append(_NAME.match(name)[0] if _NAME.match(name) else name)  # type: ignore[index]
        hints.append(hint.strip())
    return HelpFlag(tuple(names), _takes(hints[-1], is_argparse=is_argparse))


def _takes(hint: str, *, is_argparse: bool) -> Takes:
    if not hint:
        return Takes.NOTHING
    if is_argparse and hint.endswith("...]"):
        return Takes.ANY if hint.startswith("[") else Takes.MANY
    if is_argparse and hint.startswith("["):
        return Takes.MAYBE
    return Takes.TWO if _TWO_WORDS.fullmatch(hint) else Takes.ONE
