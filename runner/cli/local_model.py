"""A model file or folder of this machine: packaged once, and known again while it is unchanged."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.registry.reference import Reference
    from runner.store.store import ModelStore

REGISTRY = "localhost"
"""Where no registry answers: the model is this machine's alone, as Podman names such images."""

_RECORD = "local-models.json"
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}(\.[a-z]+)", re.IGNORECASE)
_HASH = 6
_KEPT_JOINTS = re.compile(r"\.|_{1,2}|-+")


@dataclass(frozen=True, slots=True)
class Known:
    """What was packaged: how its files were, the model that they became, and its name."""

    stamp: str
    model_id: str
    name: str


def name_of(path: Path) -> str:
    """`localhost/` and the file's name, as far as it can be a repository's."""
    stem = path.name if path.is_dir() else path.stem
    match = _SHARD.fullmatch(path.name)
    pieces = re.split(r"([^a-z0-9]+)", (match[1] if match else stem).lower())
    joined = "".join(
        piece if place % 2 == 0 or _KEPT_JOINTS.fullmatch(piece) else "-"
        for place, piece in enumerate(pieces)
    )
    return f"{REGISTRY}/{joined.strip('._-') or 'model'}"


def packaged(store: ModelStore, home: Path, path: Path) -> str:
    """The name under which the store has it. Raises what packaging raises."""
    from runner.cli.package import package_path

    whole = path.resolve()
    stamp, record = _stamp(whole), _read(home / _RECORD)
    known = record.get(str(whole))
    reference = store.reference(known.name if known else _free_name(whole, record))
    if known and known.stamp == stamp and _holds(store, reference, known.model_id):
        return reference.short
    model = package_path(store, whole, reference)
    kept = {place: known for place, known in record.items() if Path(place).exists()}
    _write(home / _RECORD, {**kept, str(whole): Known(stamp, model.id, reference.short)})
    return reference.short


def _free_name(path: Path, record: Mapping[str, Known]) -> str:
    """The path's name, with a hash where another file that is still there has that one."""
    name, source = name_of(path), _source(path)
    others = (place for place, known in record.items() if known.name == name)
    if any(_source(Path(place)) != source and Path(place).exists() for place in others):
        return f"{name}-{hashlib.sha256(os.fsencode(source)).hexdigest()[:_HASH]}"
    return name


def _source(path: Path) -> Path:
    """The same for all shards of a model."""
    match = _SHARD.fullmatch(path.name)
    return path.with_name(match[1] + match[2]) if match else path


def _holds(store: ModelStore, reference: Reference, model_id: str) -> bool:
    return any(model.id == model_id and reference.long in model.tags for model in store.list())


def _stamp(path: Path) -> str:
    """Changes with any of the files' names, sizes, times and inodes."""
    marks = []
    for file in sorted(_files(path)):
        status = file.stat()
        marks.append((str(file), status.st_size, status.st_mtime_ns, status.st_ino))
    return hashlib.sha256(json.dumps(marks).encode()).hexdigest()


def _files(path: Path) -> Iterator[Path]:
    from runner.models.folder import walk

    match = _SHARD.fullmatch(path.name)
    if path.is_dir():
        folder = walk(path)
        yield from (folder.source(file) for file in folder.files)
    elif match:
        siblings = (_SHARD.fullmatch(file.name) for file in path.parent.iterdir())
        yield from (path.parent / s[0] for s in siblings if s and s.groups() == match.groups())
    elif path.is_file():
        yield path


def _read(file: Path) -> dict[str, Known]:
    """What can't be read is packaged again: it costs time, nothing else."""
    try:
        document = json.loads(file.read_bytes())
        return {path: Known(**fields) for path, fields in document.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(file: Path, record: dict[str, Known]) -> None:
    from dataclasses import asdict

    from runner.store.files import write_whole

    document = {path: asdict(known) for path, known in record.items()}
    write_whole(file, json.dumps(document, indent=1).encode())
