"""What a model's files are called in the folder that engines are given. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from runner.artifacts.media import Dialect, LayerKind

_NUMBERED = {
    LayerKind.GGUF: ("model", ".gguf"),
    LayerKind.SAFETENSORS: ("model", ".safetensors"),
    LayerKind.LORA: ("adapter", ".gguf"),
}
_NAMED = {
    LayerKind.MMPROJ: "model.mmproj",
    LayerKind.CHAT_TEMPLATE: "template.jinja",
}
_LEFT_OUT = frozenset({LayerKind.LICENSE, LayerKind.OTHER})


def laid_out(files: Sequence[tuple[LayerKind, str]], dialect: Dialect) -> tuple[str, ...]:
    """The name of each file, given its kind and path; empty for one that is left out.

    Docker's v0.1 names files by their kind, as Docker Model Runner does, and leaves out licences;
    in the other dialects they lie where their paths say.
    """
    if dialect is Dialect.DOCKER_V01:
        return tuple(_by_kind(files))
    return tuple(path for _, path in files)


def _by_kind(files: Sequence[tuple[LayerKind, str]]) -> Iterator[str]:
    counts, numbers = Counter(kind for kind, _ in files), Counter[LayerKind]()
    for kind, path in files:
        numbers[kind] += 1
        yield _name(kind, path, numbers[kind], counts[kind])


def _name(kind: LayerKind, path: str, number: int, count: int) -> str:
    if kind in _NUMBERED:
        stem, suffix = _NUMBERED[kind]
        return f"{stem}-{number:05d}-of-{count:05d}{suffix}" if count > 1 else f"{stem}{suffix}"
    if kind is LayerKind.DDUF:
        return path or "model.dduf"
    if kind in _NAMED:
        return _NAMED[kind]
    return "" if kind in _LEFT_OUT else path
