"""Which of a repository's files make the model that a person asked for. Pure.

The rules, in their order:

1. A tag that is a quantization, or that names a GGUF or DDUF file, chooses that one.
2. Without a tag, a repository of safetensors gives its whole folder; one whose name ends in
   GGUF, or that has no safetensors, gives a GGUF file: Q4_K_M, else as `quantization.PREFERRED`
   says; one that has neither gives its DDUF file, else its folder with the weights that it has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath

from runner.errors import BadInput, BadModelFile, ModelNotFound
from runner.hubs import quantization
from runner.hubs.folder import folder_files
from runner.hubs.listing import HubFile
from runner.registry.reference import DEFAULT_TAG
from runner.weights.shards import shard_of, stem_of

MAX_TOLD = 20
_GGUF, _DDUF = ".gguf", ".dduf"


class Shape(Enum):
    """How a model is kept: as files known by what they are for, or as a folder."""

    FILES = "files"
    FOLDER = "folder"


@dataclass(frozen=True, slots=True)
class Choice:
    """`files` make the model, weights first. Of `projectors` one belongs to it, none where there
    are none: their content, not their name, says which."""

    shape: Shape
    files: tuple[HubFile, ...]
    projectors: tuple[HubFile, ...] = ()


@dataclass(frozen=True, slots=True)
class _Variant:
    """One GGUF model of a repository: a file, or all shards of it, in their order."""

    path: str
    quantization: str
    files: tuple[HubFile, ...]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def label(self) -> str:
        """What a tag can say to get it."""
        return self.quantization or self.path


def choose(repository: str, files: Sequence[HubFile], tag: str = "") -> Choice:
    """Raises ModelNotFound, naming what there is, where nothing fits; BadInput where several
    do; BadModelFile where a shard is missing."""
    asked = "" if tag == DEFAULT_TAG else tag
    ggufs = [file for file in files if _is(file, _GGUF) and not _is_aside(file)]
    ddufs = [file for file in files if _is(file, _DDUF)]
    variants = _variants(ggufs)
    if asked:
        return _asked_for(repository, asked, variants, ddufs, files)
    prefers_gguf = repository.upper().endswith("GGUF")
    if variants and (prefers_gguf or not any(_is(file, ".safetensors") for file in files)):
        return _gguf(repository, _preferred(repository, variants), files)
    if ddufs and not any(_is(file, ".safetensors") for file in files):
        return _dduf(repository, ddufs)
    chosen = folder_files(files)
    if not chosen:
        raise ModelNotFound(
            f"{repository} holds no weights of a format that is known",
            hint="known are GGUF, safetensors, DDUF, PyTorch, CTranslate2, OpenVINO and ONNX",
        )
    _require_shards(repository, chosen)
    return Choice(Shape.FOLDER, chosen)


def best_projector(found: Sequence[tuple[HubFile, str]]) -> HubFile:
    """Of projectors and the precisions read from them: F16, else BF16, else F32, else the
    smallest."""

    def order(entry: tuple[HubFile, str]) -> tuple[int, int, str]:
        file, precision = entry
        known = quantization.PROJECTORS
        place = known.index(precision) if precision in known else len(known)
        return place, file.size, file.path

    return min(found, key=order)[0]


def _asked_for(
    repository: str,
    asked: str,
    variants: Sequence[_Variant],
    ddufs: Sequence[HubFile],
    files: Sequence[HubFile],
) -> Choice:
    fitting = _matching(asked, variants)
    if len(fitting) > 1:
        raise BadInput(
            f"{asked} fits several files of {repository}",
            hint=f"name one as the tag: {_told(PurePosixPath(v.path).name for v in fitting)}",
        )
    if fitting:
        return _gguf(repository, fitting[0], files)
    named = [file for file in ddufs if _names(asked, file.path)]
    if len(named) == 1:
        return Choice(Shape.FILES, tuple(named))
    if not variants and not ddufs:
        raise ModelNotFound(
            f"{repository} has no GGUF files, so there is no {asked} of it",
            hint="leave the tag out for its other files; a branch or commit is written @REVISION",
        )
    there = [v.label for v in variants] + [PurePosixPath(file.path).stem for file in ddufs]
    raise ModelNotFound(f"{repository} has no {asked}", hint=f"it has {_told(there)}")


def _matching(asked: str, variants: Sequence[_Variant]) -> list[_Variant]:
    """By quantization first, then by the file's whole name, then by a part of it."""
    name = quantization.normal(asked)
    near = {quantization.DYNAMIC + name, name + quantization.EXPERTS}
    by_part = not quantization.is_quantization(asked)
    rules: tuple[Callable[[_Variant], bool], ...] = (
        lambda v: v.quantization == name,
        lambda v: v.quantization in near,
        lambda v: _names(asked, v.path),
        lambda v: by_part and _is_part(asked, v.path),
    )
    for rule in rules:
        found = [variant for variant in variants if rule(variant)]
        if found:
            return found
    return []


def _preferred(repository: str, variants: Sequence[_Variant]) -> _Variant:
    best = min(quantization.rank(variant.quantization) for variant in variants)
    fitting = [v for v in variants if quantization.rank(v.quantization) == best]
    if best == len(quantization.PREFERRED):
        return min(fitting, key=lambda v: (v.size, v.path))
    plain = [v for v in fitting if not v.quantization.startswith(quantization.DYNAMIC)] or fitting
    if len(plain) > 1:
        raise BadInput(
            f"{repository} holds several models",
            hint=f"name one as the tag: {_told(PurePosixPath(v.path).name for v in plain)}",
        )
    return plain[0]


def _gguf(repository: str, variant: _Variant, files: Sequence[HubFile]) -> Choice:
    _require_shards(repository, variant.files)
    projectors = tuple(file for file in files if _is(file, _GGUF) and _is_projector(file))
    folder = PurePosixPath(variant.path).parent
    beside = tuple(file for file in projectors if PurePosixPath(file.path).parent == folder)
    return Choice(Shape.FILES, variant.files, beside or projectors)


def _dduf(repository: str, ddufs: Sequence[HubFile]) -> Choice:
    if len(ddufs) > 1:
        raise BadInput(
            f"{repository} holds several DDUF files",
            hint=f"name one as the tag: {_told(PurePosixPath(f.path).stem for f in ddufs)}",
        )
    return Choice(Shape.FILES, tuple(ddufs))


def _variants(files: Iterable[HubFile]) -> list[_Variant]:
    return [
        _Variant(path, quantization.quantization_of(shards[0].path), tuple(shards))
        for (path, _), shards in sorted(_whole_files(files).items())
    ]


def _whole_files(files: Iterable[HubFile]) -> dict[tuple[str, int], list[HubFile]]:
    """Shards in their order, by the name without a number and by how many there should be."""
    groups: dict[tuple[str, int], list[HubFile]] = {}
    for file in sorted(files, key=lambda file: shard_of(file.path)):
        place = PurePosixPath(file.path)
        whole = f"{place.parent}/{stem_of(file.path)}{place.suffix}"
        count = shard_of(file.path)[1]
        groups.setdefault((whole.removeprefix("./"), count), []).append(file)
    return groups


def _require_shards(repository: str, files: Iterable[HubFile]) -> None:
    for (whole, count), shards in _whole_files(files).items():
        numbers = {shard_of(file.path)[0] for file in shards}
        missing = next((n for n in range(1, count + 1) if n not in numbers), 0)
        if missing:
            raise BadModelFile(
                f"part {missing} of {count} of {whole} is missing in {repository}",
                hint="its makers may still be uploading it: try again later",
            )


def _names(asked: str, path: str) -> bool:
    name = PurePosixPath(path).name.lower()
    return asked.lower() in {name, PurePosixPath(name).stem}


def _is_part(asked: str, path: str) -> bool:
    """Whether a tag stands in a path, with nothing but separators beside it."""
    inner = re.escape(asked.lower())
    return re.search(rf"(?<![a-z0-9]){inner}(?![a-z0-9])", path.lower()) is not None


def _is(file: HubFile, suffix: str) -> bool:
    return file.path.lower().endswith(suffix)


def _is_projector(file: HubFile) -> bool:
    return "mmproj" in PurePosixPath(file.path).name.lower()


def _is_aside(file: HubFile) -> bool:
    """GGUF files that are no language models: projectors, and what quantizing was guided by."""
    is_guide = "imatrix" in PurePosixPath(file.path).name.lower()
    return _is_projector(file) or (is_guide and not quantization.quantization_of(file.path))


def _told(names: Iterable[str]) -> str:
    listed = sorted(set(names))
    more = f" and {len(listed) - MAX_TOLD} more" if len(listed) > MAX_TOLD else ""
    return ", ".join(listed[:MAX_TOLD]) + more
