"""A small YAML document as a tree that knows its lines: what stands in a file that people write.

Scalars stay the text that was written, so that a version 0.10 is not a number. Aliases, tags and
merge keys are refused, and everything has a cap: a file from elsewhere costs no more than its size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yaml import Event

MAX_BYTES = 64 * 1024
MAX_DEPTH = 8
MAX_ITEMS = 2000
MAX_TEXT = 2000
_LOOK = ": look at quotes, brackets and indents here and just above"


class NotATree(Exception):
    """The text can't be read; `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.message = message


@dataclass(frozen=True, slots=True)
class Scalar:
    """`is_plain` where it was written without quotes: then `true` and `12` may mean more."""

    line: int
    text: str
    is_plain: bool

    def __str__(self) -> str:
        return repr(self.text) if self.text or not self.is_plain else "nothing"


@dataclass(frozen=True, slots=True)
class Sequence:
    line: int
    items: tuple[Node, ...]

    def __str__(self) -> str:
        return "a list"


@dataclass(frozen=True, slots=True)
class Mapping:
    """`entries` in their order; `duplicates` are keys that stand there again."""

    line: int
    entries: dict[str, tuple[int, Node]]
    duplicates: tuple[tuple[int, str], ...]

    def __str__(self) -> str:
        return "`name: value` lines"


Node = Scalar | Sequence | Mapping


def read_tree(content: bytes) -> Node:
    """Raises NotATree."""
    import yaml

    if len(content) > MAX_BYTES:
        raise NotATree(1, f"it is longer than the {MAX_BYTES} bytes allowed: shorten it")
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NotATree(line, "it is not UTF-8 text: save it as UTF-8") from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Reader(yaml.parse(text, Loader=loader)).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reason = " ".join(str(error.problem or error.context).split())
        raise NotATree(mark.line + 1 if mark else 1, f"it is not YAML: {reason}{_LOOK}") from error
    except (yaml.YAMLError, ValueError, ArithmeticError) as error:
        # PyYAML's own scanner lets what `int` and `chr` say of odd escapes and directives pass.
        raise NotATree(1, f"it is not YAML: {' '.join(str(error).split())}{_LOOK}") from error


class _Reader:
    """Makes the tree from the parser's events."""

    def __init__(self, events: Iterator[Event]) -> None:
        self._events: Iterator[Any] = iter(events)

    def document(self) -> Node:
        from yaml import DocumentStartEvent, StreamEndEvent

        event = self._next()  # the stream's start
        event = self._next()
        if not isinstance(event, DocumentStartEvent):
            raise NotATree(1, "it is empty: begin with `schema: 1`")
        tree = self._node(self._next(), 1)
        self._next()  # the document's end
        event = self._next()
        if not isinstance(event, StreamEndEvent):
            raise NotATree(_line(event), "it holds a second document: take the `---` out")
        return tree

    def _next(self) -> Any:  # noqa: ANN401 - PyYAML's events have no types
        return next(self._events)

    def _node(self, event: Any, depth: int) -> Node:  # noqa: ANN401
        from yaml import AliasEvent, ScalarEvent, SequenceStartEvent

        line = _line(event)
        if isinstance(event, AliasEvent) or event.anchor is not None:
            raise NotATree(line, "anchors and aliases (& and *) are not allowed: write it out")
        if event.tag is not None:
            raise NotATree(line, f"the tag {event.tag!r} is not allowed: take it out")
        if depth > MAX_DEPTH:
            raise NotATree(line, f"it is nested deeper than {MAX_DEPTH}: no field is")
        if isinstance(event, ScalarEvent):
            return _scalar(event)
        if isinstance(event, SequenceStartEvent):
            return self._sequence(line, depth)
        return self._mapping(line, depth)

    def _sequence(self, line: int, depth: int) -> Sequence:
        from yaml import SequenceEndEvent

        items: list[Node] = []
        while not isinstance(event := self._next(), SequenceEndEvent):
            items.append(self._node(event, depth + 1))
            _limit(len(items), line)
        return Sequence(line, tuple(items))

    def _mapping(self, line: int, depth: int) -> Mapping:
        from yaml import MappingEndEvent

        entries: dict[str, tuple[int, Node]] = {}
        duplicates: list[tuple[int, str]] = []
        while not isinstance(event := self._next(), MappingEndEvent):
            key = self._node(event, depth + 1)
            if not isinstance(key, Scalar) or not key.text:
                raise NotATree(key.line, f"a name is expected before the colon, not {key}")
            value = self._node(self._next(), depth + 1)
            if key.text in entries:
                duplicates.append((key.line, key.text))
            else:
                entries[key.text] = (key.line, value)
            _limit(len(entries) + len(duplicates), line)
        return Mapping(line, entries, tuple(duplicates))


def _scalar(event: Any) -> Scalar:  # noqa: ANN401
    if len(event.value) > MAX_TEXT:
        raise NotATree(_line(event), f"a text is longer than {MAX_TEXT} characters: shorten it")
    return Scalar(_line(event), event.value, not event.style)


def _limit(count: int, line: int) -> None:
    if count > MAX_ITEMS:
        raise NotATree(line, f"there are more than {MAX_ITEMS} entries: no field has so many")


def _line(event: Any) -> int:  # noqa: ANN401
    return int(event.start_mark.line) + 1
