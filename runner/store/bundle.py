"""What is in a bundle, and the record that says so: bundle.json beside the files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from runner.artifacts.artifact import ModelConfig
from runner.artifacts.media import LayerKind, ModelFormat, kind_of_file
from runner.errors import BadModelFile
from runner.store.files import write_whole
from runner.store.placements import Placement
from runner.store.tree import Tree
from runner.weights.pickles import is_left_over, is_pickle

FOLDER = "model"
RECORD = "bundle.json"
_VERSION = 1
_GGUF = b"GGUF"
_MAX_SAFETENSORS_HEADER = 100_000_000
_WEIGHTS_OF = {
    ModelFormat.GGUF: LayerKind.GGUF,
    ModelFormat.SAFETENSORS: LayerKind.SAFETENSORS,
    ModelFormat.DIFFUSERS: LayerKind.SAFETENSORS,
    ModelFormat.DDUF: LayerKind.DDUF,
}
_FORMAT_OF = {
    LayerKind.GGUF: ModelFormat.GGUF,
    LayerKind.SAFETENSORS: ModelFormat.SAFETENSORS,
    LayerKind.DDUF: ModelFormat.DDUF,
}
_BY_CONTENT = frozenset({LayerKind.GGUF, LayerKind.SAFETENSORS})

Mark = tuple[int, int, int]
"""Of a blob: inode, size, modification time. Changes when it is replaced or written to."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What an engine is given: a folder to read, and absolute paths of the files in it.

    `model_file` is the weights' first file, where several shards or a whole folder make the
    model. `size` is the bytes of all files. `pickles` says that loading it may run code in it.
    """

    folder: Path
    model_file: Path
    chat_template: Path | None
    mmproj: Path | None
    size: int
    format: ModelFormat
    pickles: bool


@dataclass(frozen=True, slots=True)
class Record:
    """A bundle as it was made: names in its folder, each file's size and modification time in
    nanoseconds, and the blobs that it was made of."""

    format: ModelFormat
    model_file: str
    chat_template: str
    mmproj: str
    pickles: bool
    files: Mapping[str, tuple[int, int]]
    blobs: Mapping[str, Mark]

    def is_kept(self, target: Path) -> bool:
        """Whether every file is still as it was; raises OSError."""
        try:
            found = {name: (target / FOLDER / name).lstat() for name in self.files}
        except (FileNotFoundError, NotADirectoryError):
            return False
        return all(
            (status.st_size, status.st_mtime_ns) == self.files[name]
            for name, status in found.items()
        )

    def bundle(self, target: Path) -> Bundle:
        folder = target / FOLDER
        return Bundle(
            folder=folder,
            model_file=folder / self.model_file,
            chat_template=folder / self.chat_template if self.chat_template else None,
            mmproj=folder / self.mmproj if self.mmproj else None,
            size=sum(size for size, _ in self.files.values()),
            format=self.format,
            pickles=self.pickles,
        )


def describe(
    tree: Tree,
    places: tuple[Placement, ...],
    config: ModelConfig,
    blobs: Mapping[str, Mark],
) -> Record:
    """What lies in a filled folder. Raises BadModelFile where no file of it holds weights."""
    files = tree.files()
    stated = {place.name: place.layer.kind for place in places}
    kinds = {name: _kind(tree.root / name, name, stated.get(name)) for name in files}
    untold = {place.name: place.layer.size for place in places if not place.is_archive}
    model_file, kind = _model_file(kinds, config.format, untold)
    return Record(
        format=_format(kind, config.format),
        model_file=model_file,
        chat_template=_first(n for n in _of(kinds, LayerKind.CHAT_TEMPLATE) if _is_jinja(n)),
        mmproj=_first(_of(kinds, LayerKind.MMPROJ)),
        pickles=config.pickles or any(_runs_code(tree.root / name, name) for name in files),
        files={name: (status.st_size, status.st_mtime_ns) for name, status in files.items()},
        blobs=blobs,
    )


def write_record(target: Path, record: Record) -> None:
    """Raises OSError."""
    document = {"version": _VERSION, **asdict(record)}
    write_whole(target / RECORD, json.dumps(document, indent=1).encode())


def read_record(target: Path) -> Record | None:
    """The record of a bundle, None where it has none that this version can read."""
    try:
        document = json.loads((target / RECORD).read_bytes())
        if document["version"] != _VERSION:
            return None
        return Record(
            format=ModelFormat(document["format"]),
            model_file=str(document["model_file"]),
            chat_template=str(document["chat_template"]),
            mmproj=str(document["mmproj"]),
            pickles=bool(document["pickles"]),
            files={n: (int(size), int(time)) for n, (size, time) in document["files"].items()},
            blobs={d: (int(i), int(s), int(t)) for d, (i, s, t) in document["blobs"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _kind(path: Path, name: str, stated: LayerKind | None) -> LayerKind:
    """What a file is for. A layer's own kind counts where it has one; names and content tell
    of the rest, of GGUF and safetensors the content alone."""
    if stated not in {None, LayerKind.WEIGHT, LayerKind.FILE, LayerKind.OTHER}:
        return stated
    by_name = kind_of_file(name)
    if by_name is LayerKind.MMPROJ:
        return by_name
    by_content = _content(path)
    if by_content is None and by_name in _BY_CONTENT:
        return LayerKind.FILE
    return by_content or by_name


def _runs_code(path: Path, name: str) -> bool:
    """By content, whatever it is called: names are the sender's word."""
    return not is_left_over(name) and _content(path) is None and is_pickle(path)


def _content(path: Path) -> LayerKind | None:
    with path.open("rb") as file:
        start = file.read(9)
    if start[:4] == _GGUF:
        return LayerKind.GGUF
    header = int.from_bytes(start[:8], "little")
    is_safetensors = start[8:] == b"{" and header <= _MAX_SAFETENSORS_HEADER
    return LayerKind.SAFETENSORS if is_safetensors else None


def _model_file(
    kinds: Mapping[str, LayerKind], model_format: ModelFormat, untold: Mapping[str, int]
) -> tuple[str, LayerKind]:
    """The format's own weights first, and of several files the outermost, by name; the largest
    layer where nothing tells that it is weights."""
    wanted = _WEIGHTS_OF.get(model_format, LayerKind.WEIGHT)
    order = dict.fromkeys((wanted, *_FORMAT_OF, LayerKind.WEIGHT, LayerKind.LORA))
    for kind in order:
        name = _first(_of(kinds, kind))
        if name:
            return name, kind
    if untold:
        return max(untold, key=lambda name: untold[name]), wanted
    raise BadModelFile(
        "the model's archives hold no weights",
        hint="the model was packaged wrongly: package its files again",
    )


def _format(kind: LayerKind, stated: ModelFormat) -> ModelFormat:
    if kind is _WEIGHTS_OF.get(stated, LayerKind.WEIGHT):
        return stated
    return _FORMAT_OF.get(kind, stated)


def _of(kinds: Mapping[str, LayerKind], wanted: LayerKind) -> list[str]:
    return [name for name, kind in kinds.items() if kind is wanted]


def _first(names: Iterable[str]) -> str:
    return min(names, key=lambda name: (name.count("/"), name), default="")


def _is_jinja(name: str) -> bool:
    return name.endswith(".jinja")
