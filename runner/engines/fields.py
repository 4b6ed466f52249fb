"""Typed fields out of a tree of YAML. Mistakes are gathered, so that all are told in one go."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from typing import TypeVar

from runner.engines.yaml_tree import Mapping, Node, Scalar, Sequence

MAX_TOLD = 20
_SHOWN = 60
_LIST = "a list, such as [a, b]"

Word = TypeVar("Word", bound=StrEnum)

_NUMBER = re.compile(r"-?[0-9]{1,12}")
_SIZE = re.compile(r"([0-9]{1,6}) ?([MG])iB")
_UNITS = {"M": 1 << 20, "G": 1 << 30}


@dataclass(slots=True)
class Mistakes:
    """What is wrong in one file, each with its line and how to mend it, in the order of lines."""

    found: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, where: str, message: str) -> None:
        self.found.append((line, f"{where}: {message}" if where else message))

    def lines(self, file: object) -> tuple[str, ...]:
        """One line for each, whatever stands in the file: names in it may hold line breaks."""
        told = [f"{file}:{line}: {_printable(message)}" for line, message in sorted(self.found)]
        more = [f"and {len(told) - MAX_TOLD} more"] if len(told) > MAX_TOLD else []
        return (*told[:MAX_TOLD], *more)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a text has to look like, and how that is said."""

    pattern: re.Pattern[str]
    words: str


class Section:
    """The fields of one mapping. Each reader takes its field's name, notes what is wrong with it,
    and then gives a stand-in, which nobody uses: the file is refused."""

    def __init__(self, node: Node, where: str, mistakes: Mistakes) -> None:
        self.line = node.line
        self.mistakes = mistakes
        self._where = where
        self._asked: dict[str, None] = {}
        self._entries: dict[str, tuple[int, Node]] = {}
        self._is_mapping = isinstance(node, Mapping)
        if not isinstance(node, Mapping):
            mistakes.add(node.line, where, f"found {shown(node)}, allowed: `name: value` lines")
            return
        self._entries = node.entries
        for line, name in node.duplicates:
            mistakes.add(line, self.name(name), "it stands here a second time: keep one")

    def name(self, key: str) -> str:
        """A field's name as mistakes call it."""
        return f"{self._where}.{key}" if self._where else key

    def wrong(self, key: str, message: str) -> None:
        """Notes a mistake in a field that was read."""
        line, _ = self._entries.get(key, (self.line, None))
        self.mistakes.add(line, self.name(key), message)

    def has(self, key: str) -> bool:
        return key in self._entries

    def node(self, key: str, *, required: bool = False, allowed: str = "") -> Node | None:
        """`allowed` are words for what a required one that is missing may be."""
        self._asked[key] = None
        if key in self._entries:
            return self._entries[key][1]
        if required and self._is_mapping:
            self.mistakes.add(self.line, self.name(key), f"it is missing, allowed: {allowed}")
        return None

    def text(self, key: str, shape: Shape, *, required: bool = False) -> str:
        node = self.node(key, required=required, allowed=shape.words)
        return "" if node is None else self._text(node, self.name(key), shape)

    def texts(self, key: str, shape: Shape, *, required: bool = False) -> tuple[str, ...]:
        """A list, each of which once."""
        found = [
            self._text(item, f"{self.name(key)}[{index}]", shape)
            for index, item in enumerate(self._items(key, required))
        ]
        self._once(key, found)
        return tuple(found)

    def arguments(self, key: str, shape: Shape) -> tuple[str, ...]:
        """A list in which the same may stand more than once."""
        return tuple(
            self._text(item, f"{self.name(key)}[{index}]", shape)
            for index, item in enumerate(self._items(key, required=False))
        )

    def number(self, key: str, low: int, high: int) -> int:
        node = self.node(key)
        if node is None:
            return 0
        if isinstance(node, Scalar) and _NUMBER.fullmatch(node.text):
            number = int(node.text)
            if low <= number <= high:
                return number
        self.wrong(key, f"found {shown(node)}, allowed: a whole number from {low} to {high}")
        return 0

    def size(self, key: str) -> int | None:
        """Bytes."""
        node = self.node(key)
        if node is None:
            return None
        if isinstance(node, Scalar) and (found := _SIZE.fullmatch(node.text)):
            return int(found[1]) * _UNITS[found[2]]
        self.wrong(key, f"found {shown(node)}, allowed: a size such as 512MiB or 2GiB")
        return None

    def truth(self, key: str) -> bool:
        node = self.node(key)
        if node is None:
            return False
        if isinstance(node, Scalar) and node.is_plain and node.text in {"true", "false"}:
            return node.text == "true"
        self.wrong(key, f"found {shown(node)}, allowed: true, false")
        return False

    def word(self, key: str, words: type[Word], stand_in: Word, *, required: bool = False) -> Word:
        node = self.node(key, required=required, allowed=", ".join(words))
        if node is None:
            return stand_in
        return self._word(node, self.name(key), words) or stand_in

    def words(self, key: str, words: type[Word]) -> tuple[Word, ...]:
        found = [
            word
            for index, item in enumerate(self._items(key, required=True))
            if (word := self._word(item, f"{self.name(key)}[{index}]", words))
        ]
        self._once(key, found)
        return tuple(found)

    def lists(self, key: str, words: type[Word], shape: Shape) -> dict[Word, tuple[str, ...]]:
        """A mapping from words to lists."""
        node = self.node(key)
        if node is None:
            return {}
        section = Section(node, self.name(key), self.mistakes)
        found: dict[Word, tuple[str, ...]] = {}
        for name, (line, _) in section._entries.items():
            texts = section.texts(name, shape, required=True)
            if word := self._word(Scalar(line, name, True), self.name(key), words):
                found[word] = texts
        return found

    def named(self, key: str, names: Shape, values: Shape) -> dict[str, str]:
        node = self.node(key)
        if node is None:
            return {}
        section = Section(node, self.name(key), self.mistakes)
        for name, (line, _) in section._entries.items():
            section._text(Scalar(line, name, True), self.name(key), names)
        return {name: section.text(name, values) for name in section._entries}

    def sections(self, key: str) -> tuple[Section, ...]:
        return tuple(
            Section(item, f"{self.name(key)}[{index}]", self.mistakes)
            for index, item in enumerate(self._items(key, required=True))
        )

    def section(self, key: str) -> Section:
        """An empty one where it is absent."""
        node = self.node(key)
        return Section(
            Mapping(self.line, {}, ()) if node is None else node, self.name(key), self.mistakes
        )

    def close(self) -> None:
        """Notes every field that nobody asked for."""
        for name, (line, _) in self._entries.items():
            if name not in self._asked:
                allowed = _one_of(name, self._asked)
                self.mistakes.add(
                    line, self.name(_short(name)), f"there is no such field; {allowed}"
                )

    def _items(self, key: str, required: bool) -> tuple[Node, ...]:
        node = self.node(key, required=required, allowed=_LIST)
        if node is None:
            return ()
        if isinstance(node, Sequence) and (node.items or not required):
            return node.items
        found = "an empty list" if isinstance(node, Sequence) else shown(node)
        self.wrong(key, f"found {found}, allowed: {_LIST}")
        return ()

    def _once(self, key: str, found: Iterable[str]) -> None:
        for text, count in Counter(found).items():
            if text and count > 1:
                self.wrong(key, f"{str(text)!r} stands there more than once: keep one")

    def _text(self, node: Node, where: str, shape: Shape) -> str:
        if isinstance(node, Scalar) and shape.pattern.fullmatch(node.text):
            return node.text
        self.mistakes.add(node.line, where, f"found {shown(node)}, allowed: {shape.words}")
        return ""

    def _word(self, node: Node, where: str, words: type[Word]) -> Word | None:
        if isinstance(node, Scalar):
            for word in words:
                if word.value == node.text:
                    return word
        text = node.text if isinstance(node, Scalar) else ""
        allowed = _one_of(text, [word.value for word in words])
        self.mistakes.add(node.line, where, f"found {shown(node)}, {allowed}")
        return None


def shown(node: Node) -> str:
    """What was found, short."""
    return _short(str(node))


def nearest(text: str, known: Iterable[str]) -> str:
    """A question with the nearest name, or ""."""
    near = get_close_matches(text, list(known), n=1)
    return f"did you mean {near[0]}?" if near else ""


def _one_of(text: str, known: Collection[str]) -> str:
    return f"allowed: {', '.join(known)}. {nearest(text, known)}".removesuffix(". ")


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else "�" for one in text)


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
