"""The bytes of a GGUF header, parsed within bounds: a pure function of a file's first bytes."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from runner.errors import BadModelFile

MAX_METADATA = 65_536
MAX_TENSORS = 1_000_000
MAX_DIMENSIONS = 4
MAX_KEY = 65_535
MAX_TEXT = 16 * 1024 * 1024
KEPT_NUMBERS = 1024
KEPT_TEXTS = 16
VERSIONS = (2, 3)

_STRING, _ARRAY, _BOOL = 8, 9, 7
_SCALARS = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    _BOOL: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32, _U64 = _SCALARS[4], _SCALARS[10]
_START = struct.Struct("<4sIQQ")
_ARRAY_START = struct.Struct("<IQ")
_SMALLEST_ENTRY = 8 + 4 + 1
_SMALLEST_TENSOR = 8 + 4 + 4 + 8

Scalar = int | float | bool | str


@dataclass(frozen=True, slots=True)
class Array:
    """An array in the metadata; `values` is None for one too long to be kept."""

    length: int
    values: tuple[Scalar, ...] | None


Value = Scalar | Array


@dataclass(frozen=True, slots=True)
class Tensor:
    """`type` is ggml's number; `offset` counts from the start of the tensor data."""

    name: str
    shape: tuple[int, ...]
    type: int
    offset: int


@dataclass(frozen=True, slots=True)
class Header:
    """Everything before the tensor data; `end` is the byte after the last tensor's entry."""

    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[Tensor, ...]
    end: int


class NeedsMore(Exception):
    """The bytes at hand end before the header does."""


def parse_header(content: bytes, file_size: int) -> Header:
    """Raises NeedsMore, or BadModelFile whose message continues the file's name."""
    reader = _Reader(content, file_size)
    _, version, tensor_count, entry_count = reader.take(_START)
    _check_version(version)
    _check_count("metadata entries", entry_count, MAX_METADATA, _SMALLEST_ENTRY, file_size)
    _check_count("tensors", tensor_count, MAX_TENSORS, _SMALLEST_TENSOR, file_size)
    metadata: dict[str, Value] = {}
    for _ in range(entry_count):
        key = reader.text(MAX_KEY)
        if key in metadata:
            raise BadModelFile(f"says {key!r} twice")
        (kind,) = reader.take(_U32)
        metadata[key] = reader.value(kind, key)
    tensors = tuple(_tensor(reader) for _ in range(tensor_count))
    return Header(version, MappingProxyType(metadata), tensors, reader.position)


def _tensor(reader: _Reader) -> Tensor:
    name = reader.text(MAX_KEY)
    (dimensions,) = reader.take(_U32)
    if dimensions > MAX_DIMENSIONS:
        raise BadModelFile(f"has a tensor {name!r} of {dimensions} dimensions, at most 4 exist")
    shape = tuple(int(reader.take(_U64)[0]) for _ in range(dimensions))
    (kind,) = reader.take(_U32)
    (offset,) = reader.take(_U64)
    return Tensor(name, shape, kind, offset)


class _Reader:
    """A position in the bytes at hand. Nothing is read or skipped past the file's end."""

    def __init__(self, content: bytes, file_size: int) -> None:
        self._content = content
        self._file_size = file_size
        self.position = 0

    def take(self, layout: struct.Struct) -> tuple[int, ...]:
        end = self.position + layout.size
        if end > len(self._content):
            raise NeedsMore
        values = layout.unpack_from(self._content, self.position)
        self.position = end
        return values

    def text(self, limit: int) -> str:
        (length,) = self.take(_U64)
        if length > limit:
            raise BadModelFile(f"has a text of {length} bytes, at most {limit} are read")
        end = self.position + length
        if end > len(self._content):
            raise NeedsMore
        text = self._content[self.position : end].decode("utf-8", "replace")
        self.position = end
        return text

    def value(self, kind: int, key: str) -> Value:
        if kind == _STRING:
            return self.text(MAX_TEXT)
        if kind == _ARRAY:
            return self._array(key)
        return self._scalar(kind, key)

    def _scalar(self, kind: int, key: str) -> Scalar:
        layout = _SCALARS.get(kind)
        if layout is None:
            raise BadModelFile(f"gives {key!r} the unknown type {kind}")
        return self.take(layout)[0]

    def _array(self, key: str) -> Array:
        kind, length = self.take(_ARRAY_START)
        if kind == _STRING:
            self._check_fits(key, length * _U64.size)
            return self._texts(length)
        layout = _SCALARS.get(kind)
        if layout is None:
            raise BadModelFile(f"gives {key!r} an array of the unknown type {kind}")
        self._check_fits(key, length * layout.size)
        if length <= KEPT_NUMBERS:
            return Array(length, tuple(self.take(layout)[0] for _ in range(length)))
        self._skip_to(self.position + length * layout.size)
        return Array(length, None)

    def _texts(self, length: int) -> Array:
        if length <= KEPT_TEXTS:
            return Array(length, tuple(self.text(MAX_TEXT) for _ in range(length)))
        self._skip_texts(length)
        return Array(length, None)

    def _skip_texts(self, count: int) -> None:
        """The one hot loop: vocabularies and merges hold some 300,000 texts."""
        content, position, unpack = self._content, self.position, _U64.unpack_from
        try:
            for _ in range(count):
                position += 8 + unpack(content, position)[0]
        except (struct.error, OverflowError):
            if position > self._file_size:
                raise BadModelFile("has a text that ends after the file") from None
            raise NeedsMore from None
        self._skip_to(position)

    def _skip_to(self, position: int) -> None:
        if position > self._file_size:
            raise BadModelFile("has a list that ends after the file")
        if position > len(self._content):
            raise NeedsMore
        self.position = position

    def _check_fits(self, key: str, size: int) -> None:
        if self.position + size > self._file_size:
            raise BadModelFile(f"gives {key!r} more items than the file has room for")


def _check_version(version: int) -> None:
    if version in VERSIONS:
        return
    swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
    if swapped in VERSIONS:
        raise BadModelFile("is big-endian, made for other processors")
    hint = "convert the original model again" if version == 1 else "update the runner"
    raise BadModelFile(f"is of GGUF version {version}; 2 and 3 can be read", hint=hint)


def _check_count(what: str, count: int, limit: int, smallest: int, file_size: int) -> None:
    if count > limit:
        raise BadModelFile(f"claims {count} {what}, at most {limit} are read")
    if count * smallest > file_size:
        raise BadModelFile(
            f"claims {count} {what}, more than its {file_size} bytes can hold",
            hint="download or copy it again",
        )
